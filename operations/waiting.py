"""Waits for the rows of a backfill, by notifications."""

from collections.abc import Callable, Iterator
from contextlib import closing

from db import backfills
from db.backfills import BackfillRecord
from db.listen import Notice, ReconnectingListener
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.contract import ChangeNotice, Status
from dropline.settings import Settings

_APPLICATION = "dropline-backfill-wait"
#: Unfinished rows are counted up to this number; then as many notifications are awaited.
_MOST_COUNTED = 20_000


def wait_for_rows(
    settings: Settings,
    record: BackfillRecord,
    bucket: str,
    timeout_s: float | None,
    on_progress: Callable[[int], None],
) -> dict[Status, int]:
    """Wait until each row of the backfill has ended; its rows by status, with those not ended in time.

    The memory does not grow with the rows: the unfinished rows are counted, each notification of an end is taken
    off, and they are counted again when none should be left.

    Args:
        settings: with Postgres, for reads.
        record: a backfill that has inserted its rows.
        bucket: of the rows.
        timeout_s: None: wait for as long as it takes.
        on_progress: called with the number of ended rows, of those seen here.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    reading = reader_settings(settings)
    slow = reading.model_copy(update={"statement_timeout_ms": max(reading.statement_timeout_ms, 60_000)})
    with (
        closing(Database.connect(slow, _APPLICATION, READER, connections=1)) as database,
        ReconnectingListener(reading, _APPLICATION) as listener,
    ):
        pending = _UnfinishedRows(database, record, bucket)
        with closing(listener.follow(pending, timeout_s)) as ends:
            for left in ends:
                on_progress(pending.ended)
                if not left:
                    break
        with database.transaction() as connection:
            return backfills.statuses(connection, record, bucket)


class _UnfinishedRows:
    """Counts the unfinished rows."""

    def __init__(self, database: Database, record: BackfillRecord, bucket: str) -> None:
        self._database = database
        self._record = record
        self._bucket = bucket
        self._left = 0
        self.ended = 0

    def catch_up(self) -> Iterator[int]:
        """The number of unfinished rows now."""
        with self._database.transaction() as connection:
            self._left = backfills.unfinished_rows(connection, self._record, self._bucket, _MOST_COUNTED)
        yield self._left

    def read(self, notice: Notice) -> Iterator[int]:
        """The number after a notification of an end. Fresh rows may have ids among those of the backfill."""
        if isinstance(notice, ChangeNotice) and self._is_end(notice):
            self.ended += 1
            self._left -= 1
            if self._left > 0:
                yield self._left
            else:
                yield from self.catch_up()

    def _is_end(self, notice: ChangeNotice) -> bool:
        first, last = self._record.first_id, self._record.last_id
        is_ours = first is not None and last is not None and first <= notice.id <= last
        return is_ours and notice.bucket == self._bucket and notice.status.is_terminal
