"""What the command line prints of strangers' names and captions."""

import json
import unicodedata
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.cli.console import (
    cell,
    complain,
    complain_at_length,
    plain_value,
    print_json,
    print_line,
    print_table,
    printable,
)

HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J[bold]x[/bold] :cat: \u202eevil\u2066 \x00 http://a/b"


@given(st.text(st.characters()))
def test_nothing_unprintable_is_left(text: str) -> None:
    """No control character, lone surrogate, line or paragraph separator survives, and it is always encodable."""
    shown = printable(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Letters of any script, emoji, punctuation and spaces are shown as they are."""
    assert printable(text) == text


def test_joined_emoji_stay_joined() -> None:
    """A zero-width joiner is part of a picture, not a trick."""
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    assert printable(family) == family


def _print(how: str) -> None:
    printers = {
        "line": lambda: print_line(HOSTILE),
        "cell": lambda: print_line(cell(HOSTILE, "red")),
        "table": lambda: print_table((HOSTILE,), [(HOSTILE,)], title=HOSTILE),
        "error": lambda: complain(HOSTILE),
        "long error": lambda: complain_at_length(HOSTILE),
        "json": lambda: print_json({"caption": HOSTILE}),
    }
    printers[how]()


@pytest.mark.parametrize("how", ["line", "cell", "table", "error", "long error", "json"])
def test_a_hostile_caption_only_shows_itself(capsys: pytest.CaptureFixture[str], how: str) -> None:
    """No escape sequence reaches the terminal, and neither markup nor emoji codes are interpreted."""
    _print(how)
    printed = "".join(capsys.readouterr())
    assert not {character for character in printed if character in "\x1b\x07\r\x9b\x00\u202e\u2066"}
    flat = "".join(printed.split())
    assert "[bold]x[/bold]" in flat
    assert ":cat:" in flat


@pytest.mark.parametrize("how", ["line", "cell", "error"])
def test_a_caption_cannot_forge_a_line(capsys: pytest.CaptureFixture[str], how: str) -> None:
    """A line break in a caption stays within its line."""
    _print(how)
    assert "".join(capsys.readouterr()).count("\n") == 1


def test_long_names_are_never_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """A name of 1,024 characters is whole in a table and on a line."""
    name = "".join(chr(ord("a") + number % 26) for number in range(1024))
    print_table(("name",), [(name,)])
    folded = "".join(line.strip("│ ") for line in capsys.readouterr().out.splitlines() if line.startswith("│"))
    assert folded == name
    print_line(name)
    assert capsys.readouterr().out == name + "\n"


@given(st.text(st.characters()) | st.dictionaries(st.text(), st.lists(st.integers() | st.none())))
def test_json_reads_back_the_same(value: object) -> None:
    """What programs read is the value itself, in ASCII."""
    capture = pytest.MonkeyPatch()
    written: list[str] = []
    with capture.context() as patch:
        patch.setattr("sys.stdout.write", written.append)
        print_json(value)
    document = "".join(written)
    assert document.isascii()
    assert json.loads(document) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (7, "7"),
        ({"labels": ["ü"]}, '{"labels": ["ü"]}'),
        (datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC), "2026-01-02 03:04:05+00:00"),
    ],
)
def test_values_of_columns_are_readable(value: object, shown: str) -> None:
    """NULL is empty, jsonb is JSON, times have whole seconds and their zone."""
    assert plain_value(value) == shown
