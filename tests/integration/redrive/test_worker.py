"""Failed rows, redriven by the command in a process, with a real worker and real services."""

import signal
from typing import Any

import psycopg
import pytest
from psycopg import Notify

from cli.exit_codes import ExitCode
from db.listen import parse_notice
from dropline.contract import NOTIFY_CHANNEL
from local_emulators.redis import RedisServer
from tests.support.failpoints import inferences
from tests.support.redrives import Redrive, StartRedrive, ended
from tests.support.worker_rig import DEADLINE_S, Rig, png


def states(rows: list[dict[str, Any]], *columns: str) -> set[tuple[Any, ...]]:
    return {tuple(row[column] for column in columns) for row in rows}


def test_failed_rows_redriven_twice_have_one_row_and_one_caption_each(
    rig: Rig, start_redrive: StartRedrive, redrive: Redrive
) -> None:
    """After a raised limit, two simultaneous redrives and a third, each failed row is captioned once."""
    strict = rig.worker(name="strict", DROPLINE_IMAGES__MAX_SIDE="8")
    ids = [rig.drop(f"{n}.png", png((n, 0, 3))) for n in range(30)]
    assert states(rig.wait_settled(ids), "status", "error_code") == {("failed", "image_too_large")}
    strict.stop()
    twice = [start_redrive("--error-code", "image_too_large") for _ in range(2)]
    assert [ended(process)[0] for process in twice] == [ExitCode.OK, ExitCode.OK]
    rig.worker()
    rows = rig.wait_settled(ids)
    redrive("--all")
    assert [rig.row(row_id) for row_id in ids] == rows
    assert states(rows, "status", "attempts", "error_code") == {("captioned", 2, None)}
    assert [row["caption"] for row in rows] == [f"{n:02x}0003" for n in range(30)]
    assert all(row["metadata_written_at"] for row in rows)
    assert sorted(inferences(rig.directory)) == sorted(row["caption"] for row in rows)
    assert rig.queue_length() == 0


def test_a_poisonous_image_gets_three_more_attempts_and_fails_again(rig: Rig, redrive: Redrive) -> None:
    """A redriven poisonous image has failed after three more inferences; the other row is captioned."""
    rig.worker()
    poison = rig.drop("poison.png", png((255, 0, 0)))
    (failed,) = rig.wait_settled([poison])
    assert (failed["status"], failed["error_code"]) == ("failed", "engine_lost")
    # Not `attempts`: an attempt that found no engine is not the fault of the image, and is repeated.
    assert inferences(rig.directory).count("ff0000") == 3
    neighbour = rig.register(rig.upload("a.png", png()))
    redrive(f"gs://{rig.bucket}/poison.png")
    rig.enqueue(neighbour)
    rig.wait_settled([neighbour])
    (failed,) = rig.wait_settled([poison])
    assert (failed["status"], failed["error_code"]) == ("failed", "engine_lost")
    assert inferences(rig.directory).count("ff0000") == 6
    assert rig.row(neighbour)["status"] == "captioned"


def test_objects_that_are_gone_end_their_rows(rig: Rig, redrive: Redrive) -> None:
    """A redriven row of a deleted object is deleted; an overwritten object stays failed, with a newer row."""
    strict = rig.worker(name="strict", DROPLINE_IMAGES__MAX_SIDE="8")
    ids = [rig.drop(name, png()) for name in ("gone.png", "overwritten.png")]
    rig.wait_settled(ids)
    strict.stop()
    rig.gcs.bucket(rig.bucket).blob("gone.png").delete()
    newer = rig.drop("overwritten.png", png((5, 5, 5)))
    redrive("--all")
    rig.worker()
    rows = rig.wait_settled([*ids, newer])
    assert [row["status"] for row in rows] == ["deleted", "failed", "captioned"]


def heard(ear: "psycopg.Connection[Any]") -> str:
    """The status in the next notification."""
    notices: list[Notify] = list(ear.notifies(timeout=DEADLINE_S, stop_after=1))
    assert notices, "no change was heard of"
    return str(parse_notice(notices[0].payload).status)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_redrive_that_is_ended_leaves_its_rows_to_a_worker(
    rig: Rig, redis_server: RedisServer, start_redrive: StartRedrive, number: signal.Signals
) -> None:
    """After an end between commit and message, the look of the next worker finds the row."""
    strict = rig.worker(name="strict", DROPLINE_IMAGES__MAX_SIDE="8")
    row_id = rig.drop("a.png", png())
    rig.wait_settled([row_id])
    strict.stop()
    with psycopg.connect(rig.database_url, autocommit=True) as ear:
        ear.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())
        redis_server.service.signal(signal.SIGSTOP)
        try:
            process = start_redrive("--all", DROPLINE_BROKER__PUBLISH_TIMEOUT_S="30")
            assert heard(ear) == "queued"
            process.send_signal(number)
            process.communicate(timeout=DEADLINE_S)
        finally:
            redis_server.service.signal(signal.SIGCONT)
    rig.celery.control.purge()  # messages possibly sent before the cancel and received when Redis resumed
    assert rig.row(row_id)["status"] == "queued"
    rig.worker()
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"
