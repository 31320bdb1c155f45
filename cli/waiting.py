"""Waiting for captions by listening: the table is read once after the listening began, then only when told."""

import time
from collections.abc import Callable, Collection
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from db import reads
from db.listen import Listener, listening
from db.reads import CaptionRecord
from db.session import Database
from dropline.contract import ObjectVersion
from dropline.errors import DatabaseUnavailable
from dropline.settings import DatabaseSettings

#: Called with a version and all its rows once every one of them has ended.
OnEnd = Callable[[ObjectVersion, list[CaptionRecord]], None]

#: Waits before each attempt to reach a Postgres that went away, in seconds.
RECONNECT_AFTER_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0)
_APPLICATION = "dropline-wait"


class Waiter:
    """Hears of every change from `__enter__` on, so enter it before the uploads begin."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._settings = settings
        self._database = Database.connect(settings, _APPLICATION, connections=1)
        self._connections = ExitStack()
        self._listener: Listener | None = None

    def __enter__(self) -> Self:
        """Start to listen.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        self._listener = self._connections.enter_context(listening(self._settings, _APPLICATION))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connections.close()
        self._database.close()

    def wait(
        self, versions: Collection[ObjectVersion], timeout_s: float, on_end: OnEnd
    ) -> dict[ObjectVersion, list[CaptionRecord]]:
        """Wait until these versions have ended. Returns those that had not when time was over, with their rows.

        Raises:
            DatabaseUnavailable: Postgres went away and did not come back.
        """
        deadline = time.monotonic() + timeout_s
        pending = set(versions)
        while True:
            try:
                self._listen_until(deadline, pending, on_end)
            except DatabaseUnavailable as lost:
                self._reconnect(lost, deadline)
            else:
                looks = {version: self._settle(version, pending, on_end) for version in set(pending)}
                return {version: rows for version, rows in looks.items() if version in pending}

    def _listen_until(self, deadline: float, pending: set[ObjectVersion], on_end: OnEnd) -> None:
        assert self._listener is not None
        for version in list(pending):
            self._settle(version, pending, on_end)
        if not pending:
            return
        # One generator for all: what it has fetched and not given out is lost with it.
        for notice in self._listener.notices(max(0.0, deadline - time.monotonic())):
            version = ObjectVersion(notice.bucket, notice.object_name, notice.generation)
            if version in pending and notice.status.is_terminal:
                self._settle(version, pending, on_end)
            if not pending:
                return

    def _settle(self, version: ObjectVersion, pending: set[ObjectVersion], on_end: OnEnd) -> list[CaptionRecord]:
        rows = self._rows(version)
        if rows and all(row.is_terminal for row in rows):
            pending.discard(version)
            on_end(version, rows)
        return rows

    def _rows(self, version: ObjectVersion) -> list[CaptionRecord]:
        with self._database.transaction() as connection:
            return reads.rows_of_object(connection, version.bucket, version.name, version.generation)

    def _reconnect(self, lost: DatabaseUnavailable, deadline: float) -> None:
        self._connections.close()
        for pause_s in RECONNECT_AFTER_S:
            time.sleep(max(0.0, min(pause_s, deadline - time.monotonic())))
            try:
                self.__enter__()
            except DatabaseUnavailable as still_away:
                lost = still_away
            else:
                return
        raise lost
