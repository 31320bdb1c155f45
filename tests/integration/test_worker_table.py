"""The statements on the table `workers`, as the role of the worker."""

import pytest
from sqlalchemy import Connection, text

from db import workers
from db.workers import NewWorker


@pytest.fixture
def as_worker(connection: Connection) -> Connection:
    """The connection with the rights of the role `dropline_worker` alone."""
    connection.exec_driver_sql("SET ROLE dropline_worker")
    return connection


def start(connection: Connection, name: str, ready_s: float = 0.0) -> None:
    workers.insert(connection, NewWorker(name, "host", "demo", "sha256-1", "cpu", 32), ready_s)


def test_the_newest_worker_has_its_times(as_worker: Connection) -> None:
    """A late row has the time at which the worker was ready; the end sets one row."""
    assert workers.newest(as_worker) is None
    start(as_worker, "a")
    start(as_worker, "b", ready_s=60)
    row = workers.newest(as_worker)
    assert row is not None
    assert (row.name, row.stopped_at) == ("b", None)
    workers.set_stopped(as_worker, "b")
    stopped = workers.newest(as_worker)
    assert stopped is not None
    assert stopped.stopped_at is not None
    assert (stopped.stopped_at - stopped.started_at).total_seconds() >= 60
    running = as_worker.execute(text("SELECT name FROM workers WHERE stopped_at IS NULL"))
    assert running.scalars().all() == ["a"]


def test_a_row_of_a_lost_answer_is_not_doubled(as_worker: Connection) -> None:
    """The commit of the first try succeeded, although its answer was lost."""
    start(as_worker, "a")
    start(as_worker, "a")
    assert as_worker.execute(text("SELECT count(*) FROM workers")).scalar_one() == 1


def test_old_rows_are_removed_and_the_newest_stays(as_worker: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number of rows is bounded, also of rows of killed workers, which never get a `stopped_at`."""
    monkeypatch.setattr(workers, "KEPT_ROWS", 2)
    for name in "abcd":
        start(as_worker, name)
    assert as_worker.execute(text("SELECT name FROM workers ORDER BY id")).scalars().all() == ["c", "d"]
