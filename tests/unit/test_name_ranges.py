"""Parts of a name space: each name is in exactly one of them; and globs of listings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import ClientError
from dropline.storage.name_globs import compile_glob, is_glob, literal_prefix, matches
from dropline.storage.name_ranges import MOST_RANGES, NameRange, NamesFrom, after_prefix, plan_ranges

# Few different characters, so that names have common beginnings; the ends of the code points are among them.
_CHARACTERS = st.sampled_from("ab/\x01\ud7ff\ue000\U0010ffffé") | st.characters(exclude_categories=["Cs"])
_NAMES = st.sets(st.text(_CHARACTERS, min_size=1, max_size=6), max_size=60)


def listing_of(names: set[str], prefix: str) -> NamesFrom:
    ordered = sorted(name for name in names if name.startswith(prefix))
    return lambda start: [name for name in ordered if name >= start][:2]


def within(name: str, each: NameRange) -> bool:
    return name >= each.start and (each.end is None or name < each.end)


@given(names=_NAMES, prefix=st.text(_CHARACTERS, max_size=2), later=st.text(_CHARACTERS, max_size=4))
def test_each_name_with_the_prefix_is_in_exactly_one_range(names: set[str], prefix: str, later: str) -> None:
    """Names of the time of the plan, and one that comes later; no other name is in a range."""
    ranges = plan_ranges(prefix, listing_of(names, prefix))
    assert 1 <= len(ranges) <= MOST_RANGES
    for name in (*names, prefix + later):
        expected = int(name.startswith(prefix) and name != "")
        assert sum(within(name, each) for each in ranges) == expected or name == ""


@given(start=st.text(_CHARACTERS, max_size=4), end=st.text(_CHARACTERS, max_size=4), names=_NAMES)
def test_each_name_of_a_range_has_the_prefix_of_the_range(start: str, end: str, names: set[str]) -> None:
    """Names of the range of a plan, or of any other, and names that begin as the range does."""
    for each in (NameRange(start, end), NameRange(start, after_prefix(start)), NameRange(start, None)):
        for name in (*names, start, *(start[:-1] + name for name in names)):
            assert name.startswith(each.prefix) or not within(name, each)


def test_a_range_of_one_beginning_has_it_as_its_prefix() -> None:
    """The first range of a bucket and the last one have none."""
    ends = [("", "1"), ("0/", "00"), ("photos/2026/b", "photos/2026/c"), ("photos/", "photos/2026/b"), ("9", None)]
    found = [NameRange(start, end).prefix for start, end in ends]
    assert found == ["", "0/", "photos/2026/b", "photos/", ""]


@given(names=_NAMES)
def test_the_order_of_strings_is_that_of_their_bytes(names: set[str]) -> None:
    """The ranges compare strings; Cloud Storage compares bytes."""
    assert sorted(names) == sorted(names, key=lambda name: name.encode())


@given(prefix=st.text(_CHARACTERS, max_size=3), rest=st.text(_CHARACTERS, max_size=3))
def test_each_name_with_a_prefix_is_before_its_end(prefix: str, rest: str) -> None:
    """And no smaller text is behind them: its own predecessor has the prefix."""
    end = after_prefix(prefix)
    assert end is None or prefix + rest < end


def test_a_bucket_is_cut_where_the_names_differ_first() -> None:
    """A common beginning of all names, of any length, costs a few short listings, and no range."""
    names = {f"photos/2026/{letter}/{number}.jpg" for letter in "abc" for number in range(5)}
    bounds = [(each.start, each.end) for each in plan_ranges("photos/", listing_of(names, "photos/"))]
    assert bounds == [
        ("photos/", "photos/2026/b"),
        ("photos/2026/b", "photos/2026/c"),
        ("photos/2026/c", "photos0"),
    ]


def test_the_plan_ends_after_some_listings() -> None:
    """A single name of a thousand characters, and a thousand different first characters."""
    calls = []

    def one(start: str) -> list[str]:
        calls.append(start)
        return ["a" * 1000] if start <= "a" * 1000 else []

    assert plan_ranges("", one) == [NameRange("", None)]
    assert len(calls) <= 100
    many = {chr(code) for code in range(0x4E00, 0x4E00 + 1000)}
    assert len(plan_ranges("", listing_of(many, ""))) == MOST_RANGES


def test_a_range_survives_json_and_shows_how_far_it_is() -> None:
    """The cursor in Postgres; the estimate for the progress bar."""
    half = NameRange("img-0", "img-2").advanced("img-1", is_done=False)
    assert NameRange.from_list(half.as_list()) == half
    assert half.offset == "img-1"
    assert half.part_read() == pytest.approx(0.5, abs=0.01)
    assert half.advanced(None, is_done=True).part_read() == 1.0
    assert NameRange("a", None).part_read() == NameRange("a", None, "zz").part_read() == 0.0


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a/*.jpg", ["a/1.jpg", "a/.jpg"], ["a/b/1.jpg", "a/1.png", "xa/1.jpg"]),
        ("**.jpg", ["1.jpg", "a/b/1.jpg"], ["a.jpgx"]),
        ("a/**/c", ["a/c", "a/b/c", "a/b/b/c"], ["ac", "a/bc"]),
        ("?.{jpg,png}", ["a.jpg", "b.png"], ["ab.jpg", "/.jpg", "a.gif"]),
        ("[a-c][!0-9]", ["ax", "c\n"], ["a1", "dx", "a/"]),
        ("a[*]b[[]", ["a*b["], ["axb["]),
        ("a,b}", ["a,b}"], ["a"]),
        ("x.y+(z)", ["x.y+(z)"], ["xay+(z)", "x.yy(z)"]),
        ("[]a]", ["]", "a"], ["b"]),
    ],
)
def test_a_glob_matches_whole_names(pattern: str, matching: list[str], others: list[str]) -> None:
    """The rules of Cloud Storage's listings."""
    compiled = compile_glob(pattern)
    assert [name for name in matching if compiled.fullmatch(name)] == matching
    assert [name for name in others if compiled.fullmatch(name)] == []


@pytest.mark.parametrize("pattern", ["a[b", "a{b", "a{b,{c}", "[z-a]"])
def test_a_glob_that_is_not_closed_is_refused(pattern: str) -> None:
    """With the way to write the character itself."""
    with pytest.raises(ClientError, match=r"\[\[\]"):
        compile_glob(pattern)


def test_a_costly_glob_ends_with_an_error() -> None:
    """A search without a time limit would stop all other requests of the gallery."""
    with pytest.raises(ClientError, match="fewer asterisks"):
        matches("{**[ab],**a}" * 40 + "[cd]?", "d" + "ab" * 500)


def test_deeply_nested_braces_are_refused() -> None:
    """The compiler of regular expressions would exceed its recursion limit."""
    with pytest.raises(ClientError, match="nested"):
        compile_glob("{" * 1000 + "}" * 1000)


def test_the_listing_begins_at_the_text_before_the_glob() -> None:
    """A prefix without special characters is no glob."""
    assert literal_prefix("2026/*/a.jpg") == "2026/"
    assert literal_prefix("2026/a#1.jpg") == "2026/a#1.jpg"
    assert is_glob("a?")
    assert not is_glob("a/b.jpg")
