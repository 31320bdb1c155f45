"""Output of the commands. Untrusted names and captions are escaped: none moves the cursor or forges a line."""

import json
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

#: Width of tables in a file or a pipe.
_PIPE_WIDTH = 120
#: Enough width to read a column with long values.
_READABLE_WIDTH = 20
#: Width of a column's border and padding.
_COLUMN_FRAME_WIDTH = 3
_INVISIBLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
#: Marks of text direction: characters are displayed in another order than in the text.
_DIRECTION_MARKS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(text: str) -> str:
    """The text with control characters, line breaks and direction marks escaped, as `\\x1b` or `\\u202e`."""
    return "".join(_escaped(character) if _is_unsafe(character) else character for character in text)


def _is_unsafe(character: str) -> bool:
    return character in _DIRECTION_MARKS or unicodedata.category(character) in _INVISIBLE_CATEGORIES


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def value_text(value: object) -> str:
    """Any column value of Postgres as text; NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=value_text)
    return str(value)


def safe_text(value: object, style: str = "") -> Text:
    """Any value as printable text on one line, without markup."""
    return Text(printable(value_text(value)), style=style)


class _PipeConsole(Console):
    """A console that leaves a closed pipe to `cli.main`."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout_console() -> Console:
    """Standard output."""
    width = None if sys.stdout.isatty() else _PIPE_WIDTH
    return _PipeConsole(width=width, highlight=False, markup=False, emoji=False)


def stderr_console() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def make_progress() -> Progress:
    """Progress bars with counts on standard error; no output without a terminal."""
    console = stderr_console()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)


def print_line(text: str | Text = "") -> None:
    """Print one line on standard output, never folded."""
    stdout_console().print(text if isinstance(text, Text) else safe_text(text), soft_wrap=True)


def print_note(message: str) -> None:
    """Print a remark for people on standard error, in one line."""
    stderr_console().print(Text(printable(message), style="dim"), soft_wrap=True)


def print_error(message: str) -> None:
    """Print an error on standard error, in a single red line."""
    stderr_console().print(safe_text(f"error: {message}", "red"), soft_wrap=True)


def print_error_lines(message: str) -> None:
    """Print an error of several lines on standard error: the end of a local service's log is part of the error."""
    for line in f"error: {message}".splitlines():
        stderr_console().print(safe_text(line, "red"), soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table of folded cells, never cut."""
    table = Table(title=None if title is None else Text(printable(title)), title_justify="left")
    for column in columns:
        table.add_column(safe_text(column), overflow="fold")
    for row in rows:
        table.add_row(*(value if isinstance(value, Text) else safe_text(value) for value in row))
    stdout_console().print(table)


def print_query_result(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table; if the columns are too narrow to read, a block per row with a line per column."""
    names = [safe_text(column) for column in columns]
    lines = [[safe_text(value) for value in row] for row in rows]
    if _is_readable([names, *lines], stdout_console().width):
        print_table(columns, lines)
    elif lines:
        _print_blocks(names, lines)
    else:
        print_line("no rows")


def _is_readable(lines: Sequence[Sequence[Text]], width: int) -> bool:
    widths = (max(cell_len(text.plain) for text in column) for column in zip(*lines, strict=True))
    return 1 + sum(min(each, _READABLE_WIDTH) + _COLUMN_FRAME_WIDTH for each in widths) <= width


def _print_blocks(names: Sequence[Text], lines: Sequence[Sequence[Text]]) -> None:
    for number, line in enumerate(lines, 1):
        table = Table(title=Text(f"row {number} of {len(lines)}"), title_justify="left", show_header=False)
        table.add_column(overflow="fold", max_width=_READABLE_WIDTH * 2)
        table.add_column(overflow="fold")
        for name, value in zip(names, line, strict=True):
            table.add_row(name, value)
        stdout_console().print(table)


def print_json(document: Any, *, indent: int | None = 2) -> None:
    """Print one JSON document in ASCII: control characters and direction marks are escaped."""
    print_document(json.dumps(document, indent=indent, default=_json_value))


def print_document(text: str) -> None:
    """Print a finished document in ASCII, unchanged."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _json_value(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)
