"""`dropline watch`: row changes as they happen, across lost connections."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from cli.console import print_json, print_line, print_note, safe_text
from cli.results import FILTERED_STATUS, caption_or_error, filter_words, filtered_document, status_text
from db import reads
from db.listen import Notice, ReconnectingListener
from db.reads import CaptionRecord
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.contract import FilteredNotice, Status
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
    """Show every change of a row as it happens, with its caption, and every filtered object, until Ctrl-C.

    Listens to Postgres and sends no statement while no row changes.
    """
    settings = reader_settings(load_settings())
    with (
        closing(Database.connect(settings, _APPLICATION, READER, connections=1)) as database,
        ReconnectingListener(settings, _APPLICATION, print_note) as listener,
        closing(listener.follow(_ChangeReader(database))) as changes,
    ):
        for change in islice((each for each in changes if bucket in ("", each.bucket)), limit):
            if json:
                print_json(change.document(), indent=None)
            else:
                print_line(change.line())


@dataclass(frozen=True, slots=True)
class _Change:
    """One change of a row, and the row as read afterwards: a later change may be in the row already."""

    status: Status
    #: True if the change recorded the write-back to the object's metadata.
    metadata_written: bool
    row: CaptionRecord

    @property
    def bucket(self) -> str:
        """The bucket of the row."""
        return self.row.bucket

    def document(self) -> dict[str, Any]:
        """The columns of the row, with the status after the change."""
        return {**self.row.document(), "status": self.status, "metadata_written": self.metadata_written}

    def line(self) -> Text:
        """The change for people."""
        state = safe_text("metadata", "blue") if self.metadata_written else status_text(self.status)
        words = caption_or_error(self.row) if self.status.is_terminal else ""
        return _line(self.row.updated_at, state, self.row.version.uri, words)


@dataclass(frozen=True, slots=True)
class _FilteredObject:
    """The event of an object that a rule filters: there is no row."""

    notice: FilteredNotice

    @property
    def bucket(self) -> str:
        """The bucket of the object."""
        return self.notice.version.bucket

    def document(self) -> dict[str, Any]:
        """The object, and the rule."""
        return filtered_document(self.notice)

    def line(self) -> Text:
        """The event for people, with the time of this machine: the notification has none."""
        words = filter_words(self.notice.reason, self.notice.setting)
        state = safe_text(FILTERED_STATUS, "dim")
        return _line(datetime.now(UTC), state, self.notice.version.uri, words)


class _ChangeReader:
    """Reads changed rows for a listener."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Number of the latest change's transaction; None before the first change.
        self._latest: int | None = None

    def catch_up(self) -> Iterator[_Change | _FilteredObject]:
        """The rows changed without a connection; none before the first change. Filtered objects are not stored."""
        if self._latest is None:
            return
        with self._database.transaction() as connection:
            rows = reads.rows_changed_since(connection, self._latest, _MOST_MISSED)
        for row in rows:
            self._latest = row.changed_in
            yield _Change(row.status, row.metadata_written_at is not None, row)

    def read(self, notice: Notice) -> Iterator[_Change | _FilteredObject]:
        """The filtered object or the row of a notification; none if the row has been deleted meanwhile."""
        if isinstance(notice, FilteredNotice):
            yield _FilteredObject(notice)
            return
        with self._database.transaction() as connection:
            row = reads.row(connection, notice.id)
        if row is not None:
            self._latest = row.changed_in
            metadata_written = notice.status is Status.CAPTIONED and notice.metadata_written
            yield _Change(notice.status, metadata_written, row)


def _line(time: datetime, state: Text, uri: str, words: str) -> Text:
    state.pad_right(_STATUS_WIDTH - len(state))
    return Text("  ").join([Text(f"{time.astimezone():%H:%M:%S}"), state, safe_text(uri), safe_text(words)])
