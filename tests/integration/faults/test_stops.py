"""A worker that is told to stop in the middle of an image, and one whose Redis does not end its BRPOP."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
import redis

from db import workers
from db.workers import WorkerRecord
from local_emulators.supervisor import Service
from tests.support.engines import wait_until
from tests.support.failpoints import Gate, inferences
from tests.support.rows import end_waits
from tests.support.worker_rig import DEADLINE_S, Rig, png

_HOLD_COMMITS = """
    CREATE FUNCTION hold_commit() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(18); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER hold_commit AFTER UPDATE ON captions DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.status = 'captioned' AND OLD.status = 'running') EXECUTE FUNCTION hold_commit();
"""
#: Time of a container on Cloud Run from SIGTERM to SIGKILL.
_CONTAINER_S = 10.0
_USER = "without-unblock"
_IN_COMMIT = "SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"


@contextmanager
def _commits_held(rig: Rig) -> Iterator[psycopg.Connection]:
    """The COMMIT of a caption waits, until the lock of the connection is released."""
    with psycopg.connect(rig.database_url, autocommit=True) as connection:
        connection.execute(_HOLD_COMMITS.encode())
        connection.execute("SELECT pg_advisory_lock(18)")
        yield connection


@pytest.mark.parametrize("is_in_time", [True, False], ids=["within the limit", "after the limit"])
def test_fault_18_sigquit_during_a_commit(rig: Rig, is_in_time: bool) -> None:
    """The commit succeeds before the end of the worker, or the child is ended during its wait: one row."""
    limits = {
        "DROPLINE_IMAGES__DECODE_TIMEOUT_S": "1",
        # Celery waits for so long, and then ends the children.
        "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": "4" if is_in_time else "2",
        "DROPLINE_WORKER__TIME_LIMIT_S": "90",
        "DROPLINE_DATABASE__STATEMENT_TIMEOUT_MS": "120000" if is_in_time else "5000",
    }
    worker = rig.worker(**limits)
    with _commits_held(rig) as holder:
        row_id = rig.drop("a.png", png((1, 0, 18)))
        wait_until(lambda: holder.execute(_IN_COMMIT.encode()).rowcount == 1)
        worker.signal(signal.SIGQUIT)
        assert worker.wait_for_line("Initiating Soft Shutdown", DEADLINE_S)
        if not is_in_time:
            assert worker.wait_for_exit(DEADLINE_S)
        holder.execute("SELECT pg_advisory_unlock(18)")
        assert worker.wait_for_exit(DEADLINE_S)
    with rig.database.transaction() as connection:
        end_waits(connection)  # as time does: the lease of a dead worker ends by itself
    rig.worker("second")
    (row,) = rig.wait_settled([row_id])
    assert (row["status"], row["caption"]) == ("captioned", "010012")
    assert len(inferences(rig.directory)) <= (1 if is_in_time else 2)


def test_fault_17_sigterm_during_an_inference(rig: Rig) -> None:
    """The image is finished, the exit status is 0, and no message is left for another worker."""
    gate = Gate(rig.directory, "inference")
    worker = rig.worker()
    row_id = rig.drop("a.png", png((1, 0, 17)))
    gate.wait(DEADLINE_S)
    worker.signal(signal.SIGTERM)
    assert worker.wait_for_line("Warm shutdown", DEADLINE_S)
    gate.open()
    assert worker.wait_for_exit(DEADLINE_S)
    assert worker.exit_status == 0
    row = rig.row(row_id)
    assert (row["status"], row["attempts"], row["lease_until"]) == ("captioned", 1, None)
    assert row["metadata_written_at"]
    with redis.Redis.from_url(rig.redis_url) as client:
        assert (rig.queue_length(), client.hlen("unacked")) == (0, 0)


def test_the_row_of_a_worker_is_closed_before_its_last_image_is_finished(rig: Rig) -> None:
    """A container that is killed ten seconds after SIGTERM leaves no row that looks like a running worker."""
    gate = Gate(rig.directory, "inference")
    worker = rig.worker(ready="worker_row_written")
    row_id = rig.drop("a.png", png((1, 0, 19)))
    gate.wait(DEADLINE_S)
    assert _newest(rig).stopped_at is None
    worker.signal(signal.SIGTERM)
    wait_until(lambda: _newest(rig).stopped_at is not None)
    assert worker.alive
    gate.open()
    assert worker.wait_for_exit(DEADLINE_S)
    assert (worker.exit_status, rig.row(row_id)["status"]) == (0, "captioned")


def _newest(rig: Rig) -> WorkerRecord:
    with rig.database.transaction() as connection:
        found = workers.newest(connection)
    assert found is not None
    return found


@contextmanager
def _told_to_stop(rig: Rig, refused: str) -> Iterator[Service]:
    """A worker with Terraform's interval, which is sent SIGTERM; Redis does not end its fresh BRPOP."""
    with redis.Redis.from_url(rig.redis_url) as client:
        client.execute_command("ACL", "SETUSER", _USER, "on", ">secret", "~*", "&*", "+@all", refused)
        try:
            worker = rig.worker(
                ready="worker_row_written",
                DROPLINE_BROKER__URL=rig.redis_url.replace(":test@", f"{_USER}:secret@"),
                DROPLINE_BROKER__POLLING_INTERVAL_S="4",
            )
            assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
            worker.signal(signal.SIGTERM)
            yield worker
        finally:
            client.execute_command("ACL", "DELUSER", _USER)


@pytest.mark.parametrize("refused", ["-client|unblock", "-client"])
def test_a_stop_without_client_unblock_fits_in_the_time_of_a_container(rig: Rig, refused: str) -> None:
    """Memorystore may refuse the command, or all of CLIENT."""
    with _told_to_stop(rig, refused) as worker:
        begin = time.monotonic()
        assert worker.wait_for_exit(DEADLINE_S)
        assert time.monotonic() - begin < _CONTAINER_S
        assert "blocking_pop_not_ended" in "".join(worker.last_lines(100))
    assert worker.exit_status == 0
    assert _newest(rig).stopped_at is not None


def test_a_message_that_a_stopping_worker_still_gets_is_returned(rig: Rig) -> None:
    """Redis gives the message to the BRPOP that was not ended; the next worker captions its row."""
    with _told_to_stop(rig, "-client|unblock") as worker:
        assert worker.wait_for_line("blocking_pop_not_ended", DEADLINE_S)
        row_id = rig.drop("late.png", png((1, 0, 20)))
        assert worker.wait_for_exit(DEADLINE_S)
    assert (worker.exit_status, rig.queue_length()) == (0, 1)
    assert rig.row(row_id)["attempts"] == 0
    rig.worker("second")
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"
