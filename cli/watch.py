"""`dropline watch`: every change of a row, as it happens."""

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cli.changes import Change


def watch(
    bucket: Annotated[str, typer.Option(help="Only changes in this bucket.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="End after this many changes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document per line.")] = False,
) -> None:
    """Show every change of a row as it happens, with its caption, until Ctrl-C.

    Listens to Postgres: while nothing happens, nothing is asked.
    """
    from itertools import islice

    from cli.changes import follow
    from cli.console import note, print_json
    from db.session import reader_settings
    from dropline.settings import load_settings

    with closing(follow(reader_settings(load_settings()), note)) as changes:
        for change in islice(_of_bucket(changes, bucket), limit):
            if json:
                print_json(change.document(), indent=None)
            else:
                _print(change)


def _of_bucket(changes: "Iterator[Change]", bucket: str) -> "Iterator[Change]":
    return (change for change in changes if bucket in ("", change.row.bucket))


def _print(change: "Change") -> None:
    from rich.text import Text

    from cli.console import cell, print_line
    from cli.results import status_cell, words_of

    state = cell("metadata", "blue") if change.metadata_written else status_cell(change.status)
    state.pad_right(10 - len(state))
    parts = (f"{change.row.updated_at.astimezone():%H:%M:%S}", state, cell(change.row.version.uri))
    words = cell(words_of(change.row) if change.status.is_terminal else "")
    print_line(Text("  ").join([*(part if isinstance(part, Text) else Text(part) for part in parts), words]))
