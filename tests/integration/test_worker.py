"""A real worker with real services and a counting engine: normal work, crashes and outages."""

import os
import signal
from pathlib import Path

import pytest
import redis

from dropline.contract import CAPTION_QUEUE
from local_emulators.redis import RedisServer
from tests.support.engines import wait_until
from tests.support.failpoints import arm, armed, inferences
from tests.support.processes import children, linux_only, unread_bytes
from tests.support.worker_rig import DEADLINE_S, Rig, png


def test_an_object_gets_its_caption_in_the_row_and_on_the_object(rig: Rig) -> None:
    """The caption is in Postgres with all columns, and in the object's metadata."""
    rig.worker()
    version = rig.upload("a/ü.png", png((1, 2, 3)), owner="me")
    row_id = rig.register(version)
    rig.enqueue(row_id)
    (row,) = rig.wait_settled([row_id])
    assert (row["status"], row["caption"], row["model"]) == ("captioned", "010203", "counting")
    assert (row["width"], row["height"], row["attempts"], row["lost_attempts"]) == (40, 30, 1, 0)
    assert row["metadata_written_at"] is not None
    assert rig.metadata(version) == {
        "caption": "010203",
        "caption-prompt": "<CAPTION>",
        "caption-model": "counting",
        "owner": "me",
    }


def test_a_hundred_copies_of_a_message_run_the_model_once(rig: Rig) -> None:
    """Of 100 copies of a message, one claims the row and runs the model."""
    row_id = rig.register(rig.upload("a.png", png()))
    other = rig.register(rig.upload("last.png", png((9, 9, 9))))
    for _ in range(100):
        rig.enqueue(row_id)
    rig.enqueue(other)
    rig.worker()
    rows = rig.wait_settled([row_id, other])
    assert [row["status"] for row in rows] == ["captioned", "captioned"]
    assert inferences(rig.directory).count("010203") == 1


def test_two_hundred_images_at_once(rig: Rig) -> None:
    """Each of 200 simultaneous images is captioned once, and the queue is empty at the end."""
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    ids = [rig.drop(f"{n}.png", png((0, n, 1), (4, 4))) for n in range(200)]
    rows = rig.wait_settled(ids)
    assert {row["status"] for row in rows} == {"captioned"}
    assert sorted(inferences(rig.directory)) == sorted(f"00{n:02x}01" for n in range(200))
    wait_until(lambda: rig.queue_length() == 0)  # a message more than needed finds no row


def test_bad_images_fail_with_a_reason_and_alone(rig: Rig) -> None:
    """A permanent error takes one attempt and has a code; other images are captioned."""
    rig.worker()
    bad = rig.drop("bad.png", b"these are words, not pixels")
    good = rig.drop("good.png", png())
    failed, captioned = rig.wait_settled([bad, good])
    assert (failed["status"], failed["error_code"], failed["attempts"]) == ("failed", "not_an_image", 1)
    assert failed["caption"] is None
    assert captioned["status"] == "captioned"


def test_an_image_that_kills_the_engine_is_set_aside_and_its_neighbours_succeed(rig: Rig) -> None:
    """Three lost attempts make a failed row; the other images of the batch are captioned."""
    poison = rig.register(rig.upload("poison.png", png((255, 0, 0))))
    others = [rig.register(rig.upload(f"{n}.png", png((0, 0, n)))) for n in range(8)]
    for row_id in (*others[:4], poison, *others[4:]):
        rig.enqueue(row_id)
    rig.worker()
    failed, *captioned = rig.wait_settled([poison, *others])
    assert (failed["status"], failed["error_code"]) == ("failed", "engine_lost")
    assert inferences(rig.directory).count("ff0000") == 3
    assert {row["status"] for row in captioned} == {"captioned"}


def test_an_image_that_kills_its_child_is_set_aside(rig: Rig) -> None:
    """The row counts lost attempts, so the redeliveries end."""
    arm(rig.directory, "decoding", "child", times=3)
    rig.worker()
    (row,) = rig.wait_settled([rig.drop("crash.png", png())])
    assert (row["status"], row["error_code"], row["lost_attempts"]) == ("failed", "worker_lost", 3)
    assert armed(rig.directory) == []


@pytest.mark.parametrize(
    "stage", ["claimed", "downloaded", "before-commit", "committed", "patched", "before-acknowledge"]
)
def test_fault_16_a_killed_child_loses_nothing(rig: Rig, stage: str) -> None:
    """A child killed at any step leaves one row with one caption, after at most one additional inference."""
    rig.worker(DROPLINE_WORKER__CONCURRENCY="2")
    arm(rig.directory, stage, "child", times=2)
    ids = [rig.drop(f"{n}.png", png((n, 0, 7))) for n in range(6)]
    rows = rig.wait_settled(ids)
    assert {row["status"] for row in rows} == {"captioned"}
    assert armed(rig.directory) == []
    counts = [inferences(rig.directory).count(f"{n:02x}0007") for n in range(6)]
    assert sum(counts) <= 6 + (2 if stage == "before-commit" else 0)
    assert all(row["metadata_written_at"] for row in rows)


@pytest.mark.parametrize("stage", ["claimed", "committed", "before-acknowledge"])
def test_fault_16_a_killed_worker_loses_nothing(rig: Rig, stage: str) -> None:
    """After a worker is killed at any step, the next worker recovers every row at the end of the lease."""
    # A lease of 45 s, and seconds enough for each image on a busy machine.
    short = {
        "DROPLINE_IMAGES__DECODE_TIMEOUT_S": "11",
        "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": "12",
        "DROPLINE_WORKER__TIME_LIMIT_S": "15",
    }
    worker = rig.worker(**short)
    arm(rig.directory, stage, "parent")
    ids = [rig.drop(f"{n}.png", png((n, 0, 8))) for n in range(6)]
    assert worker.wait_for_exit(DEADLINE_S)
    rig.worker(**short)
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["error"]) for row in rows} == {("captioned", None)}
    assert max(inferences(rig.directory).count(f"{n:02x}0008") for n in range(6)) <= 2


def test_fault_16_an_engine_killed_during_inference_is_back_and_loses_nothing(rig: Rig) -> None:
    """The parent restarts the engine, and the images of the lost batch are run again."""
    rig.worker()
    arm(rig.directory, "inference", "engine", times=2)
    ids = [rig.drop(f"{n}.png", png((n, 0, 9))) for n in range(6)]
    rows = rig.wait_settled(ids)
    assert {row["status"] for row in rows} == {"captioned"}
    assert armed(rig.directory) == []


def test_fault_15_a_message_lost_between_redis_and_the_worker_is_recovered(rig: Rig) -> None:
    """A worker dies between BRPOP and the record of the message: the recovery at the next start finds the row."""
    arm(rig.directory, "append", "engine")  # the parent reaches the failpoint, and kills its own process
    row_id = rig.register(rig.upload("a.png", png()))
    rig.enqueue(row_id)
    without = rig.worker(name="lossy", DROPLINE_WORKER__LOOK_FOR_ROWS="false")
    assert without.wait_for_exit(DEADLINE_S)
    assert rig.queue_length() == 0
    rig.worker()
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"


def test_without_a_look_the_row_of_a_lost_message_waits_for_the_next_message(rig: Rig) -> None:
    """Control: no look finds the row. The child that ends the next row does."""
    arm(rig.directory, "append", "engine")
    lost = rig.register(rig.upload("lost.png", png()))
    rig.enqueue(lost)
    first = rig.worker(name="lossy", DROPLINE_WORKER__LOOK_FOR_ROWS="false")
    assert first.wait_for_exit(DEADLINE_S)
    rig.worker(DROPLINE_WORKER__LOOK_FOR_ROWS="false")
    assert rig.row(lost)["status"] == "queued"
    rows = rig.wait_settled([rig.drop("next.png", png((5, 5, 5))), lost])
    assert [row["status"] for row in rows] == ["captioned", "captioned"]


def test_fault_14_five_hundred_rows_after_a_flush_and_a_restart(rig: Rig, redis_server: RedisServer) -> None:
    """After FLUSHALL and a restart of Redis, the worker's look at the reconnection finds all queued rows."""
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    worker.signal(signal.SIGSTOP)
    ids = [rig.drop(f"{n}.png", png((*divmod(n, 256), 10), (4, 4))) for n in range(500)]
    with redis.Redis.from_url(rig.redis_url) as client:
        client.flushall()
    redis_server.service.kill()
    redis_server.service.restart()
    worker.signal(signal.SIGCONT)
    rows = rig.wait_settled(ids)
    assert {row["status"] for row in rows} == {"captioned"}


def test_an_engine_that_dies_after_a_reconnection_is_still_noticed(rig: Rig, redis_server: RedisServer) -> None:
    """Celery clears the event loop when the broker is lost; the engine is watched again afterwards."""
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    redis_server.service.kill()
    redis_server.service.restart()
    assert worker.wait_for_line("Trying to re-establish", DEADLINE_S)
    rig.wait_settled([rig.drop("before.png", png((1, 1, 12)))])
    arm(rig.directory, "inference", "engine")
    (row,) = rig.wait_settled([rig.drop("after.png", png((2, 2, 12)))])
    assert row["status"] == "captioned"
    assert armed(rig.directory) == []


def test_a_terminated_worker_finishes_what_it_holds(rig: Rig) -> None:
    """After SIGTERM the current images are finished, the exit code is 0, and no process is left."""
    worker = rig.worker(DROPLINE_WORKER__CONCURRENCY="1")
    ids = [rig.drop(f"{n}.png", png((n, 0, 11))) for n in range(3)]
    rig.wait_settled(ids[:1])
    worker.stop()
    rows = [rig.row(row_id) for row_id in ids]
    assert {row["status"] for row in rows} <= {"captioned", "queued"}
    assert "ended with exit status 0" in worker.describe_death()


@linux_only
def test_a_worker_told_to_stop_before_its_child_accepts_the_message_stops_at_once(rig: Rig) -> None:
    """The parent reads the result of a message that was not accepted when SIGTERM came.

    Otherwise the child waits for 30 s before its exit, longer than the supervisor allows.
    """
    worker = rig.worker(DROPLINE_WORKER__CONCURRENCY="1", DROPLINE_WORKER__LOOK_FOR_ROWS="false")
    # Celery gives no message to a child that has reported neither its start nor the end of the message before.
    rig.wait_settled([rig.drop("first.png", png((2, 3, 11)))])
    with redis.Redis.from_url(rig.redis_url) as client:
        wait_until(lambda: client.hlen("unacked") == 0)
    (child,) = (pid for pid, child in children(worker.pid).items() if "failpoint_worker" in child.command_line)
    os.kill(child, signal.SIGSTOP)
    before = unread_bytes(child)
    row_id = rig.drop("late.png", png((3, 3, 11)))
    wait_until(lambda: unread_bytes(child) > before)
    threads = Path(f"/proc/{worker.pid}/task")
    running = len(list(threads.iterdir()))
    worker.signal(signal.SIGTERM)
    # Celery starts a thread when it waits for the children.
    wait_until(lambda: len(list(threads.iterdir())) > running)
    os.kill(child, signal.SIGCONT)
    worker.stop()
    assert "ended with exit status 0" in worker.describe_death()
    assert rig.row(row_id)["status"] == "captioned"


def test_a_worker_told_to_stop_while_its_engine_loads_stops(rig: Rig) -> None:
    """SIGTERM during a long load ends the engine and the worker."""
    arm(rig.directory, "loading", "hang")
    worker = rig.worker(ready="engine_loading")
    worker.signal(signal.SIGTERM)
    assert worker.wait_for_exit(DEADLINE_S)
    assert "ended with exit status 0" in worker.describe_death()


def test_a_hanging_engine_is_ended_and_the_image_set_aside(rig: Rig) -> None:
    """The hard time limit ends each hanging inference, and the row has the error."""
    arm(rig.directory, "inference", "hang", times=3)
    rig.worker(DROPLINE_ENGINE__REQUEST_TIMEOUT_S="2", DROPLINE_WORKER__RETRY_FOR_S="2")
    hanging = rig.drop("hang.png", png())
    (row,) = rig.wait_settled([hanging])
    assert row["status"] == "failed"
    assert row["error_code"] in {"engine_lost", "engine_unavailable", "worker_lost", "inference_timeout"}
    (after,) = rig.wait_settled([rig.drop("next.png", png((5, 6, 7)))])
    assert after["status"] == "captioned"


def test_a_child_over_its_hard_limit_is_killed_and_the_image_tried_again(rig: Rig) -> None:
    """The hard time limit ends a decoder that ignores the soft limit, and the row counts lost attempts."""
    arm(rig.directory, "decoding", "hang")
    rig.worker(
        DROPLINE_IMAGES__DECODE_TIMEOUT_S="3.9",
        DROPLINE_WORKER__SOFT_TIME_LIMIT_S="4",
        DROPLINE_WORKER__TIME_LIMIT_S="5",
    )
    (row,) = rig.wait_settled([rig.drop("slow.png", png())])
    assert row["status"] == "captioned"
    assert row["lost_attempts"] >= 1


def test_junk_on_the_queue_is_refused_and_the_worker_lives(rig: Rig) -> None:
    """A pickled body, an unknown task and unusable arguments are logged and leave the queue."""
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    rig.celery.send_task("no.such.task", queue=CAPTION_QUEUE)
    rig.celery.send_task("dropline.caption", ["'; DROP TABLE captions"], queue=CAPTION_QUEUE)
    with rig.celery.connection_for_write() as connection:
        producer = connection.Producer(serializer="pickle")
        producer.publish({"x": object}, routing_key=CAPTION_QUEUE)
    (row,) = rig.wait_settled([rig.drop("good.png", png())])
    assert row["status"] == "captioned"
    assert rig.queue_length() == 0


def test_an_overwritten_object_is_superseded_and_a_deleted_one_deleted(rig: Rig) -> None:
    """A missing generation is no error: the status tells an overwrite from a deletion."""
    old = rig.upload("a.png", png((1, 1, 1)))
    rig.upload("a.png", png((2, 2, 2)))
    gone = rig.upload("b.png", png())
    rig.gcs.bucket(rig.bucket).blob("b.png").delete()
    rig.worker()
    ids = [rig.register(old), rig.register(gone)]
    for row_id in ids:
        rig.enqueue(row_id)
    assert [row["status"] for row in rig.wait_settled(ids)] == ["superseded", "deleted"]
