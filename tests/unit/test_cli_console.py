"""Untrusted names and captions in the output of the commands."""

import json
import unicodedata
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.console import (
    print_error,
    print_error_lines,
    print_json,
    print_line,
    print_query_result,
    print_table,
    printable,
    safe_text,
    value_text,
)

HOSTILE = "\x1b[31mred\x1b]0;title\x07\r\n\x9b2J[bold]x[/bold] :cat: \u202eevil\u2066 \x00 http://a/b"


@given(st.text(st.characters()))
def test_no_unprintable_character_is_left(text: str) -> None:
    """Output has no control character, lone surrogate, line or paragraph separator, and is always encodable."""
    shown = printable(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
    shown.encode()


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Letters of any script, emoji, punctuation and spaces are unchanged."""
    assert printable(text) == text


def test_joined_emoji_stay_joined() -> None:
    """A zero-width joiner is part of an emoji and stays."""
    family = "\N{MAN}\N{ZERO WIDTH JOINER}\N{GIRL}"
    assert printable(family) == family


def _print(how: str) -> None:
    printers = {
        "line": lambda: print_line(HOSTILE),
        "cell": lambda: print_line(safe_text(HOSTILE, "red")),
        "table": lambda: print_table((HOSTILE,), [(HOSTILE,)], title=HOSTILE),
        "error": lambda: print_error(HOSTILE),
        "long error": lambda: print_error_lines(HOSTILE),
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
    """A line break in a caption does not begin a new line."""
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
    """The document is the value itself, in ASCII."""
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
        ([timedelta(seconds=5), None, [Decimal("1.50")]], '["0:00:05", null, ["1.50"]]'),
        ((1, datetime(2026, 1, 2, tzinfo=UTC)), '[1, "2026-01-02 00:00:00+00:00"]'),
    ],
)
def test_values_of_columns_are_readable(value: object, shown: str) -> None:
    """NULL is empty, jsonb is JSON, and times have whole seconds and a zone."""
    assert value_text(value) == shown


def test_many_columns_become_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    """A row too wide for a table is a block, with whole names and values."""
    columns = [f"some_column_{number}" for number in range(27)]
    print_query_result(columns, [[f"value {number}" for number in range(27)], [None] * 26 + [HOSTILE]])
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines if line.startswith("row")] == ["row 1 of 2", "row 2 of 2"]
    assert any("some_column_26" in line and "value 26" in line for line in lines)
    assert not any("\x1b" in line for line in lines)
    assert max(map(len, lines)) <= 120


def test_few_columns_stay_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    """A long caption is folded inside the column."""
    print_query_result(("object_name", "caption"), [("a.jpg", "a red circle " * 50)])
    printed = capsys.readouterr().out
    assert "row 1" not in printed
    assert printed.count("object_name") == 1


def test_many_columns_without_rows_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Without rows the output has no block of column names."""
    print_query_result([f"some_column_{number}" for number in range(27)], [])
    assert capsys.readouterr().out == "no rows\n"
