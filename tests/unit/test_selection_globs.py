"""Globs over untrusted names."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import SettingsError
from dropline.selection import Globs


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("**", "a"),
        ("**", "a/b/c"),
        ("**", "/"),
        ("*", "cat.jpg"),
        ("*.jpg", "cat.jpg"),
        ("**/*.jpg", "cat.jpg"),
        ("**/*.jpg", "a/b/cat.jpg"),
        ("**/*.jpg", "/cat.jpg"),
        ("a/**/b", "a/b"),
        ("a/**/b", "a/x/y/b"),
        ("a/**/b/**/c", "a/b/b/c"),
        ("a/**", "a/"),
        ("a/**", "a/x"),
        ("**/a/*/c", "a/a/b/c"),
        ("?.png", "é.png"),
        ("[a-c][!x]/[*]", "by/*"),
        ("a/*", "a/"),
        ("", ""),
        ("image/*", "image/svg+xml"),
        ("*/*", "text/plain"),
        ("q?x=1#f", "q?x=1#f"),
        ("50%2F*", "50%2Foff"),
    ],
)
def test_matches(glob: str, name: str) -> None:
    """A glob matches the name."""
    assert Globs([glob]).match(name)


@pytest.mark.parametrize(
    ("glob", "name"),
    [
        ("*", "a/b"),
        ("*.jpg", "a/cat.jpg"),
        ("*.jpg", "cat.JPG"),
        ("*.jpg", "cat.jpg/"),
        ("*.jpg", "cat.jpg\n"),
        ("a/**/b", "a/x/c"),
        ("a/**", "b/a/x"),
        ("a/?/b", "a//b"),
        ("a?b", "a/b"),
        ("a[/]b", "a/b"),
        ("", "x"),
        ("image/*", "text/image"),
        ("a.c", "abc"),
    ],
)
def test_does_not_match(glob: str, name: str) -> None:
    """A glob does not match: `*` and `?` stay within a level, the whole name counts, and a dot is a dot."""
    assert not Globs([glob]).match(name)


def test_any_of_several_is_enough() -> None:
    """A set of globs matches if a single glob matches; an empty set never matches."""
    assert Globs(["a/**", "**/*.png"]).match("x/y.png")
    assert not Globs([]).match("x")


@pytest.mark.parametrize("glob", ["**.jpg", "a/b**", "***"])
def test_a_glued_double_star_is_refused(glob: str) -> None:
    """`**.jpg` would silently mean `*.jpg`; the error shows the correct form."""
    with pytest.raises(SettingsError, match=r"\*\*/\*\.jpg"):
        Globs([glob])


@pytest.mark.parametrize(
    "glob",
    ["*a" * 30 + "b", "**/" * 30 + "b", "/".join(["**", "*a*a*a"] * 10) + "/b", "**/a/" * 30 + "b"],
)
@pytest.mark.parametrize("name", ["a" * 1024, "a/" * 512, "aaaa/" * 200])
def test_hostile_names_end(glob: str, name: str) -> None:
    """The matcher ends in time for any name: backtracking without end would hang the test."""
    assert not Globs([glob]).match(name)


def reference(glob: str) -> re.Pattern[str]:
    """The same rules as a regular expression, which may backtrack without a limit."""
    parts = ["[^/]*".join(re.escape(text) for text in part.split("*")) for part in glob.split("/")]
    pattern = ""
    for index, (part, source) in enumerate(zip(parts, glob.split("/"), strict=True)):
        last = index == len(parts) - 1
        if source == "**":
            pattern += "(?:[^/]*(?:/[^/]*)*)" if last else "(?:[^/]*/)*"
        else:
            pattern += part if last else f"{part}/"
    if glob.endswith("/**"):  # any number of levels, also zero
        pattern = f"{pattern}|{reference(glob[:-3]).pattern}"
    return re.compile(pattern)


globs = st.lists(st.sampled_from(["**", "*", "a", "b", "a*", "*b", "a*b", ""]), min_size=1, max_size=5).map(
    "/".join
)
names = st.text(alphabet="ab/", max_size=10)


@given(globs, names)
def test_agrees_with_a_reference(glob: str, name: str) -> None:
    """The matcher agrees with an exhaustive search."""
    assert Globs([glob]).match(name) == (reference(glob).fullmatch(name) is not None)
