"""What commands print. Names and captions come from strangers: none of them may move a cursor or forge a line."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

#: Width of tables that go to a file or a pipe.
_PIPE_WIDTH = 120
#: A column that gets as much can be read, however long its values are.
_READABLE_WIDTH = 20
_INVISIBLE = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Marks that turn the direction of text: what is read is not what is there.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text with control characters, line breaks and direction marks spelt out, as `\\x1b` or `\\u202e`."""
    return "".join(_spelt_out(character) if _is_unsafe(character) else character for character in text)


def _is_unsafe(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) in _INVISIBLE


def _spelt_out(character: str) -> str:
    return character.encode("unicode_escape").decode()


def plain_value(value: object) -> str:
    """Any value of Postgres's as text; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=plain_value)
    return str(value)


def cell(value: object, style: str = "") -> Text:
    """Any value as text without markup, on one line."""
    return Text(printable(plain_value(value)), style=style)


def out() -> Console:
    """Standard output."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False, markup=False, emoji=False)


def err() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def print_line(text: str | Text = "") -> None:
    """One line on standard output, never folded."""
    out().print(text if isinstance(text, Text) else cell(text), soft_wrap=True)


def note(message: str) -> None:
    """A remark for people, on standard error."""
    err().print(Text(printable(message), style="dim"), soft_wrap=True)


def complain(message: str) -> None:
    """An error, in one red line on standard error."""
    err().print(cell(f"error: {message}", "red"), soft_wrap=True)


def complain_at_length(message: str) -> None:
    """An error whose line breaks are ours: what a service of this machine said last."""
    for line in f"error: {message}".splitlines():
        err().print(cell(line, "red"), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """A table whose cells are folded, never cut."""
    table = Table(title=None if title is None else Text(printable(title)), title_justify="left")
    for column in columns:
        table.add_column(cell(column), overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else cell(value) for value in row))
    out().print(table)


def print_answer(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table; where its columns would be too narrow to be read, a block per row with a line per column."""
    names = [cell(column) for column in columns]
    lines = [[cell(value) for value in row] for row in rows]
    if _is_readable([names, *lines], out().width):
        print_table(columns, lines)
    elif lines:
        _print_blocks(names, lines)
    else:
        print_line("no rows")


def _is_readable(lines: Sequence[Sequence[Text]], width: int) -> bool:
    widths = (max(cell_len(each.plain) for each in column) for column in zip(*lines, strict=True))
    # A column's border and padding take three.
    return 1 + sum(min(each, _READABLE_WIDTH) + 3 for each in widths) <= width


def _print_blocks(names: Sequence[Text], lines: Sequence[Sequence[Text]]) -> None:
    for number, line in enumerate(lines, 1):
        table = Table(title=Text(f"row {number} of {len(lines)}"), title_justify="left", show_header=False)
        table.add_column(overflow="fold", max_width=_READABLE_WIDTH * 2)
        table.add_column(overflow="fold")
        for name, value in zip(names, line, strict=True):
            table.add_row(name, value)
        out().print(table)


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """One JSON document, in ASCII: what a terminal could take for a command is escaped."""
    sys.stdout.write(json.dumps(document, indent=indent, default=_plain) + "\n")
    sys.stdout.flush()


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
