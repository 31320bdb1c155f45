"""Recoveries of two workers at the same time, over a real Postgres: each row is enqueued once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep

import pytest
from sqlalchemy import text

from db.session import Database
from dropline.contract import ObjectVersion
from tests.support.rows import drop
from worker.recovery import Recovery

ROWS = 30
DEADLINE_S = 60.0
_WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'advisory'")


class Queue:
    """The queue of two workers. The first reader waits until the second reads or is blocked by the lock."""

    def __init__(self, database: Database) -> None:
        self.rows: list[int] = []
        self.readers = 0
        self._database = database
        self._lock = threading.Lock()

    def begin_recovery(self) -> list[int]:
        """The rows on the queue."""
        with self._lock:
            self.readers += 1
            first = self.readers == 1
            found = list(self.rows)
        deadline = monotonic() + DEADLINE_S
        while first and self.readers == 1 and not self._a_recovery_waits():
            assert monotonic() < deadline, "no second recovery came"
            sleep(0.01)
        return found

    def enqueue_again(self, row_id: int, _countdown_s: float) -> None:
        """Put the row on the queue."""
        with self._lock:
            self.rows.append(row_id)

    def end_recovery(self) -> None:
        """No mark to delete: the recoveries of this test are not interrupted."""

    def _a_recovery_waits(self) -> bool:
        with self._database.transaction() as connection:
            return bool(connection.execute(_WAITING).scalar_one())


@pytest.fixture
def ids(database: Database) -> list[int]:
    """Queued rows without messages."""
    with database.transaction() as connection:
        return [drop(connection, ObjectVersion("drops", f"{number}.png", 1)) for number in range(ROWS)]


def test_two_recoveries_at_once_enqueue_each_row_once(database: Database, ids: list[int]) -> None:
    """The second recovery waits for the lock, and then finds every row on the queue."""
    queue = Queue(database)

    def run(_: int) -> int:
        return Recovery(database, queue, batch=7).run().queued

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(run, range(2))) == [0, ROWS]
    assert queue.readers == 2
    assert sorted(queue.rows) == ids
