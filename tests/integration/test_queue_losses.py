"""Losses of messages and workers: rows in Postgres are found without their messages."""

import signal

import redis

from dropline.contract import ALARM_CHANNEL, CAPTION_QUEUE
from tests.support.engines import wait_until
from tests.support.failpoints import INFERENCE_VARIABLE, inferences
from tests.support.processes import children
from tests.support.worker_rig import DEADLINE_S, Rig, png

#: A lease of 45 s, and seconds enough for each image on a busy machine.
SHORT_LEASE = {
    "DROPLINE_IMAGES__DECODE_TIMEOUT_S": "11",
    "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": "12",
    "DROPLINE_WORKER__TIME_LIMIT_S": "15",
}


def drop_many(rig: Rig, count: int) -> list[int]:
    """Queued rows with their messages: the ids."""
    return [rig.drop(f"{n}.png", png((n % 256, n // 256, 20), (4, 4))) for n in range(count)]


def captioned_once(rig: Rig, ids: list[int]) -> None:
    """Every row has its caption, and no image ran twice."""
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["error"]) for row in rows} == {("captioned", None)}
    assert {row["attempts"] for row in rows} == {1}


def test_fault_39_messages_lost_while_the_connections_live(rig: Rig) -> None:
    """Redis emptied under load, then halved: the ends of rows find the others, and nothing runs twice."""
    worker = rig.worker(**{INFERENCE_VARIABLE: "0.05"})
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    with redis.Redis.from_url(rig.redis_url) as client:
        ids = drop_many(rig, 60)
        client.flushall()
        more = [rig.drop(f"more-{n}.png", png((n, 0, 21), (4, 4))) for n in range(60)]
        client.ltrim(CAPTION_QUEUE, 0, max(0, client.llen(CAPTION_QUEUE) // 2 - 1))
        captioned_once(rig, [*ids, *more])
    assert len(inferences(rig.directory)) == 120


def test_rows_without_any_message_bring_all_children_to_work(rig: Rig) -> None:
    """Rows inserted without a message are due; the look of the ready worker is enough, with few messages."""
    ids = [rig.register(rig.upload(f"{n}.png", png((n, 0, 22), (4, 4)))) for n in range(40)]
    rig.worker(DROPLINE_WORKER__CONCURRENCY="3", **{INFERENCE_VARIABLE: "0.05"})
    captioned_once(rig, ids)


def test_the_row_of_a_killed_worker_is_claimed_by_one_that_was_idle(rig: Rig) -> None:
    """The killed worker is never started again; the alarm that it published sounds in the other one."""
    slow = SHORT_LEASE | {INFERENCE_VARIABLE: "8"}
    workers = [rig.worker(name=name, **slow) for name in ("one", "other")]
    for worker in workers:
        assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    row_id = rig.drop("a.png", png((1, 2, 23)))
    wait_until(lambda: rig.row(row_id)["status"] == "running")
    child = int(rig.row(row_id)["claimed_by"].rpartition("/")[2])
    (busy,) = (worker for worker in workers if child in children(worker.pid))
    busy.signal(signal.SIGKILL)
    (row,) = rig.wait_settled([row_id])
    assert (row["status"], row["attempts"], row["lost_attempts"]) == ("captioned", 2, 1)


def test_a_stranger_on_the_channel_of_alarms_changes_nothing(rig: Rig) -> None:
    """Messages of any form are passed over, and the worker works on."""
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    with redis.Redis.from_url(rig.redis_url) as client:
        for message in (b"\xff", b"{}", b"[" * 5000, b'{"worker": "x", "in_s": -1}', b'{"worker": 1, "in_s": 2}'):
            assert client.publish(ALARM_CHANNEL, message) == 1
    captioned_once(rig, [rig.drop("a.png", png())])
    assert worker.wait_for_line("stranger_alarm_left_out", DEADLINE_S)


def test_a_worker_that_stops_has_the_others_look(rig: Rig) -> None:
    """A row without a message, as where Redis sent the message to the stopping worker: another worker finds it."""
    stopping = rig.worker(name="stopping")
    staying = rig.worker(name="staying")
    assert staying.wait_for_line("looked_at_queue", DEADLINE_S)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 31))))
    stopping.stop()
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"
