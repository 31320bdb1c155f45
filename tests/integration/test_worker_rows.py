"""The worker's row in the table `workers`, and whether the worker is alive: real workers over real services."""

import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from sqlalchemy.engine import make_url

from db import workers
from db.workers import WorkerRecord
from operations.workers import Availability, availability
from tests.support.engines import wait_until
from tests.support.processes import children
from tests.support.worker_rig import DEADLINE_S, Rig

_WRITTEN = "worker_row_written"


def newest(rig: Rig) -> WorkerRecord:
    with rig.database.transaction() as connection:
        found = workers.newest(connection)
    assert found is not None
    return found


def found(rig: Rig) -> Availability:
    return availability(rig.settings)


def test_a_worker_is_alive_from_ready_to_stop_and_its_row_has_both_times(rig: Rig) -> None:
    """At ready the row has host, model, device and batch; at the end `stopped_at`, and the worker is not alive."""
    assert found(rig).alive == 0
    worker = rig.worker(ready=_WRITTEN, DROPLINE_ENGINE__MAX_BATCH="16")
    row = newest(rig)
    assert (row.host, row.model, row.model_revision) == (socket.gethostname(), "counting", "test")
    assert (row.device, row.largest_batch, row.stopped_at) == ("none", 16, None)
    assert found(rig).names == {row.name}
    worker.stop()
    assert "ended with exit status 0" in worker.describe_death()
    stopped = newest(rig)
    assert stopped.name == row.name
    assert stopped.stopped_at is not None
    assert stopped.stopped_at > stopped.started_at
    assert found(rig).alive == 0


def test_a_killed_worker_is_not_alive_although_its_row_has_no_end(rig: Rig) -> None:
    """After `kill -9` the row has no `stopped_at`; a child that was forked late does not keep the worker alive."""
    worker = rig.worker(ready=_WRITTEN, DROPLINE_WORKER__CONCURRENCY="1")
    name = newest(rig).name
    (first,) = _children(worker.pid)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: bool(_children(worker.pid) - {first}))
    assert found(rig).is_alive(name)
    worker.signal(signal.SIGKILL)
    wait_until(lambda: found(rig).alive == 0)
    row = newest(rig)
    assert (row.name, row.stopped_at, found(rig).is_alive(name)) == (name, None, False)


def test_a_worker_without_a_number_chooses_its_children(rig: Rig) -> None:
    """As many children as its log names: without a GPU 4, where the memory holds them."""
    worker = rig.worker(ready=_WRITTEN)
    (line,) = [each for each in map(json.loads, worker.last_lines(1_000)) if each["message"] == "children_chosen"]
    assert (line["wanted"], line["gpu_engines"], line["decided_by"]) == (4, 0, "cpu")
    assert len(_children(worker.pid)) == line["children"] == 4


def _children(pid: int) -> set[int]:
    return {child for child, about in children(pid).items() if "failpoint_worker" in about.command_line}


def test_two_workers_are_two_rows_and_the_newer_is_the_newest(rig: Rig) -> None:
    """Each start has a name of its own; one worker stays alive when the other stops."""
    first = rig.worker("first", ready=_WRITTEN)
    older = newest(rig)
    rig.worker("second", ready=_WRITTEN)
    newer = newest(rig)
    assert found(rig).names == {older.name, newer.name}
    assert found(rig).words() == "2 workers are alive"
    first.stop()
    assert found(rig).names == {newer.name}


def test_a_worker_without_postgres_starts_and_stops_and_its_row_follows(rig: Rig) -> None:
    """Postgres is away at ready and at the end: the row is written in between, and the exit code is 0."""
    with _database_away(rig):
        worker = rig.worker()
        assert worker.wait_for_line("worker_row_not_written", DEADLINE_S)
        assert found(rig).alive == 1
    assert worker.wait_for_line("worker_row_written", DEADLINE_S)
    row = newest(rig)
    assert found(rig).names == {row.name}
    with rig.database.transaction() as connection:
        age = connection.exec_driver_sql("SELECT extract(epoch FROM now() - started_at) FROM workers").scalar_one()
    assert age >= 1, "the worker was ready before the first try of the row, which a pause of 1 s follows"
    with _database_away(rig):
        worker.stop()
    assert "ended with exit status 0" in worker.describe_death()
    assert newest(rig).stopped_at is None


@contextmanager
def _database_away(rig: Rig) -> Iterator[None]:
    """The database of the test has another name: every login to its usual name fails."""
    url = make_url(rig.database_url)
    name, server = url.database, url.set(database="postgres").render_as_string(hide_password=False)
    rig.database.close()
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
        yield
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())
