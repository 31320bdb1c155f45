"""`dropline watch`: row changes as they happen, across lost connections."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.console import print_json, print_line, print_note, safe_text
from cli.results import caption_or_error, status_text
from db import reads
from db.listen import ReconnectingListener
from db.reads import CaptionRecord
from db.session import Database, reader_settings
from dropline.contract import ChangeNotice, Status
from dropline.settings import load_settings

_APPLICATION = "dropline-watch"
#: Most changes that are shown after a lost connection.
_MOST_MISSED = 1000
#: Columns of the longest status, `superseded`.
_STATUS_WIDTH = 10


def watch(
    bucket: Annotated[str, typer.Option(help="Only changes in this bucket.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="End after this many changes.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document per line.")] = False,
) -> None:
    """Show every change of a row as it happens, with its caption, until Ctrl-C.

    Listens to Postgres and sends no statement while no row changes.
    """
    settings = reader_settings(load_settings())
    with (
        closing(Database.connect(settings, _APPLICATION, connections=1)) as database,
        ReconnectingListener(settings, _APPLICATION, print_note) as listener,
        closing(listener.follow(_ChangeReader(database))) as changes,
    ):
        for change in islice((each for each in changes if bucket in ("", each.row.bucket)), limit):
            if json:
                print_json(change.document(), indent=None)
            else:
                _print(change)


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of a row, and the row as read afterwards: a later change may be in the row already."""

    status: Status
    #: True if the change recorded the write-back to the object's metadata.
    metadata_written: bool
    row: CaptionRecord

    def document(self) -> dict[str, Any]:
        """The columns of the row, with the status after the change."""
        return {**self.row.document(), "status": self.status, "metadata_written": self.metadata_written}


class _ChangeReader:
    """Reads changed rows for a listener."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Time of the latest change, by the clock of Postgres; None before the first change.
        self._latest: datetime | None = None

    def catch_up(self) -> Iterator[_Change]:
        """The rows changed without a connection; none before the first change."""
        if self._latest is None:
            return
        with self._database.transaction() as connection:
            rows = reads.rows_changed_since(connection, self._latest, _MOST_MISSED)
        for row in rows:
            self._latest = row.updated_at
            yield _Change(row.status, row.metadata_written_at is not None, row)

    def read(self, notice: ChangeNotice) -> Iterator[_Change]:
        """The row of a notification; none if the row has been deleted meanwhile."""
        with self._database.transaction() as connection:
            row = reads.row(connection, notice.id)
        if row is not None:
            self._latest = row.updated_at
            metadata_written = notice.status is Status.CAPTIONED and notice.metadata_written
            yield _Change(notice.status, metadata_written, row)


def _print(change: _Change) -> None:
    state = safe_text("metadata", "blue") if change.metadata_written else status_text(change.status)
    state.pad_right(_STATUS_WIDTH - len(state))
    words = caption_or_error(change.row) if change.status.is_terminal else ""
    time = Text(f"{change.row.updated_at.astimezone():%H:%M:%S}")
    print_line(Text("  ").join([time, state, safe_text(change.row.version.uri), safe_text(words)]))
