"""Changes of rows, one after the other, over lost connections too."""

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine

from cli.waiting import RECONNECT_AFTER_S, Row
from db import views
from db.listen import Listener, listening
from db.session import make_engine, transaction
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
    row: Row

    def document(self) -> dict[str, Any]:
        """The row for programs, with the state this change led to."""
        return {**self.row, "status": self.status, "metadata_written": self.metadata_written}


def follow(database: DatabaseSettings, note: Callable[[str], None]) -> Generator[Change, None, None]:
    """Every change from now on, without end.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached, or went away and did not come back.
    """
    engine = make_engine(database, _APPLICATION, pool_size=1)
    try:
        yield from _Following(database, engine, note).changes()
    finally:
        engine.dispose()


class _Following:
    def __init__(self, database: DatabaseSettings, engine: Engine, note: Callable[[str], None]) -> None:
        self._database = database
        self._engine = engine
        self._note = note
        #: When the latest change we know of was made, by Postgres's clock; None before the first.
        self._latest: datetime | None = None

    def changes(self) -> Iterator[Change]:
        pauses: Iterator[float] | None = None
        while True:
            try:
                with listening(self._database, _APPLICATION) as listener:
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
            with transaction(self._engine) as connection:
                row = views.row(connection, notice.id)
            if row is not None:
                self._latest = row["updated_at"]
                news = notice.status is Status.CAPTIONED and notice.metadata_written
                yield Change(notice.status, news, row)

    def _missed(self) -> Iterator[Change]:
        if self._latest is None:
            return
        with transaction(self._engine) as connection:
            rows = views.rows_changed_since(connection, self._latest, _MOST_MISSED)
        for row in rows:
            self._latest = row["updated_at"]
            yield Change(Status(row["status"]), row["metadata_written_at"] is not None, row)
