"""Changes of rows, one after the other, over lost connections too."""

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cli.waiting import RECONNECT_AFTER_S
from db import reads
from db.listen import Listener, listening
from db.reads import CaptionRecord
from db.session import Database
from dropline.contract import Status
from dropline.errors import DatabaseUnavailable
from dropline.settings import DatabaseSettings

_APPLICATION = "dropline-watch"
#: After a lost connection at most this many missed changes are shown.
_MOST_MISSED = 1000


@dataclass(frozen=True, slots=True)
class Change:
    """One transition, and the row as it was when it was read: perhaps further already."""

    status: Status
    #: Whether this is the news that the metadata is written.
    metadata_written: bool
    row: CaptionRecord

    def document(self) -> dict[str, Any]:
        """The row for programs, with the state this change led to."""
        return {**self.row.document(), "status": self.status, "metadata_written": self.metadata_written}


def follow(settings: DatabaseSettings, note: Callable[[str], None]) -> Generator[Change, None, None]:
    """Every change from now on, without end.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached, or went away and did not come back.
    """
    with closing(Database.connect(settings, _APPLICATION, connections=1)) as database:
        yield from _Following(settings, database, note).changes()


class _Following:
    def __init__(self, settings: DatabaseSettings, database: Database, note: Callable[[str], None]) -> None:
        self._settings = settings
        self._database = database
        self._note = note
        #: When the latest change we know of was made, by Postgres's clock; None before the first.
        self._latest: datetime | None = None

    def changes(self) -> Iterator[Change]:
        pauses: Iterator[float] | None = None
        while True:
            try:
                with listening(self._settings, _APPLICATION) as listener:
                    self._note("listening")
                    yield from self._missed()
                    pauses = iter(RECONNECT_AFTER_S)
                    yield from self._heard(listener)
            except DatabaseUnavailable as lost:
                pause_s = None if pauses is None else next(pauses, None)
                if pause_s is None:
                    raise
                self._note(f"{lost}; trying again in {pause_s:g} s")
                time.sleep(pause_s)

    def _heard(self, listener: Listener) -> Iterator[Change]:
        for notice in listener.notices():
            with self._database.transaction() as connection:
                row = reads.row(connection, notice.id)
            if row is not None:
                self._latest = row.updated_at
                news = notice.status is Status.CAPTIONED and notice.metadata_written
                yield Change(notice.status, news, row)

    def _missed(self) -> Iterator[Change]:
        if self._latest is None:
            return
        with self._database.transaction() as connection:
            rows = reads.rows_changed_since(connection, self._latest, _MOST_MISSED)
        for row in rows:
            self._latest = row.updated_at
            yield Change(row.status, row.metadata_written_at is not None, row)
