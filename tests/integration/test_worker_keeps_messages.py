"""No message is lost to a full Redis, a standby or a wrong clock; the row would wait for the next worker."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
import redis

from benchmarks.stack import Messages
from db import claims
from dropline.broker.queue import CaptionQueue
from dropline.contract import CAPTION_QUEUE, Caption, Claim, Dimensions, ObjectVersion
from dropline.errors import BrokerUnavailable, DatabaseUnavailable
from local_emulators.supervisor import Service
from tests.support.worker_rig import DEADLINE_S, Rig, png
from worker.recovery import Recovery


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the test's Redis; the limit of memory is removed at the end."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.config_set("maxmemory", "0")


def _started(rig: Rig) -> Service:
    worker = rig.worker()
    assert worker.wait_for_line("recovered", DEADLINE_S)
    return worker


def test_a_redis_without_memory_costs_neither_the_worker_nor_a_message(
    rig: Rig, redis_client: redis.Redis
) -> None:
    """A message that Redis sent and could not record is recovered by the same worker, once Redis has memory."""
    worker = _started(rig)
    worker.signal(signal.SIGSTOP)
    ids = [rig.drop(f"{n}.png", png((n, 0, 21))) for n in range(3)]
    redis_client.config_set("maxmemory", "1")
    worker.signal(signal.SIGCONT)
    assert worker.wait_for_line("Trying to re-establish", DEADLINE_S)
    redis_client.config_set("maxmemory", "0")
    assert {row["status"] for row in rig.wait_settled(ids)} == {"captioned"}
    assert worker.alive


def test_a_redis_that_loses_its_data_while_all_children_are_busy_loses_no_row(
    rig: Rig, redis_client: redis.Redis
) -> None:
    """No BRPOP waits then, and the Redis client reconnects silently: the disconnection requests the recovery."""
    worker = rig.worker(DROPLINE_WORKER__CONCURRENCY="1", DROPLINE_DATABASE__STATEMENT_TIMEOUT_MS="60000")
    assert worker.wait_for_line("recovered", DEADLINE_S)
    busy, *waiting = [rig.register(rig.upload(f"{n}.png", png((n, 0, 24)))) for n in range(3)]
    with psycopg.connect(rig.database_url) as blocker:
        blocker.execute("SELECT FROM captions WHERE id = %s FOR UPDATE", [busy])
        rig.enqueue(busy)
        assert worker.wait_for_line(f'"args": "[{busy}]"', DEADLINE_S)
        for row_id in waiting:
            rig.enqueue(row_id)
        redis_client.flushall()
        redis_client.client_kill_filter(_type="normal", skipme=True)
    assert {row["status"] for row in rig.wait_settled([busy, *waiting])} == {"captioned"}
    assert worker.alive


def test_a_retry_that_redis_refuses_goes_back_to_the_queue(rig: Rig, redis_client: redis.Redis) -> None:
    """An attempt that fails while Redis refuses writes is repeated."""
    worker = _started(rig)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 22))))
    with psycopg.connect(rig.database_url) as blocker:
        # Redis has recorded the message, and the claim waits for the row. Then Redis is full, and the claim times
        # out.
        blocker.execute("SELECT FROM captions WHERE id = %s FOR UPDATE", [row_id])
        rig.enqueue(row_id)
        assert worker.wait_for_line(f'"args": "[{row_id}]"', DEADLINE_S)
        redis_client.config_set("maxmemory", "1")
        assert worker.wait_for_line("later", DEADLINE_S)
    assert worker.wait_for_line("Trying to re-establish", DEADLINE_S)
    redis_client.config_set("maxmemory", "0")
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"


def test_a_statement_that_cannot_succeed_yet_keeps_its_message(rig: Rig) -> None:
    """Without the table, the message is kept; the row is captioned once the table exists."""
    worker = _started(rig)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 23))))
    with psycopg.connect(rig.database_url, autocommit=True) as admin:
        admin.execute("ALTER TABLE captions RENAME TO away")
        rig.enqueue(row_id)
        assert worker.wait_for_line("run `python -m migrations` on it", DEADLINE_S)
        admin.execute("ALTER TABLE away RENAME TO captions")
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"


def test_a_delayed_message_that_comes_early_waits_for_the_end_of_the_lease(rig: Rig) -> None:
    """With a fast clock, the recovery's message arrives during the lease of a dead worker, and is redelivered."""
    _started(rig)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 24))))
    with rig.database.transaction() as connection:
        claims.claim(connection, row_id, 3)
    rig.queue.enqueue_again(row_id, 0.01)
    (row,) = rig.wait_settled([row_id])
    assert (row["status"], row["lost_attempts"]) == ("captioned", 1)


def test_a_recovery_that_was_cut_short_is_made_whole_by_the_next(rig: Rig) -> None:
    """Messages of the first recovery do not hide the other rows."""
    rows = {rig.register(ObjectVersion(rig.bucket, f"{n}", 1)) for n in range(300)}
    first = _recovered(rig, most=150)
    assert len(first) == 150
    assert first | _recovered(rig) == rows
    assert _recovered(rig) == set()


def test_a_recovery_hands_out_again_what_was_taken_too_long_ago(rig: Rig, redis_client: redis.Redis) -> None:
    """A dead worker's message returns to the queue, once; a recently taken message stays with the worker."""
    rows = {age_s: rig.register(ObjectVersion(rig.bucket, f"{age_s}", 1)) for age_s in (1860.0, 60.0)}
    for age_s, row_id in rows.items():
        rig.enqueue(row_id)
        _take(redis_client, age_s)
    assert _recovered(rig) == {rows[60.0]}
    with closing(Messages(rig.redis_url)) as messages:
        assert messages.rows() == dict.fromkeys(rows.values(), 1)
    assert redis_client.hkeys("unacked") == redis_client.zrange("unacked_index", 0, -1) == [b"60.0"]


def _take(redis_client: redis.Redis, age_s: float) -> None:
    """Take the next message, as if a worker had taken the message `age_s` seconds ago."""
    message = redis_client.rpop(CAPTION_QUEUE)
    assert isinstance(message, bytes)
    redis_client.hset("unacked", f"{age_s}", json.dumps([json.loads(message), CAPTION_QUEUE, CAPTION_QUEUE]))
    redis_client.zadd("unacked_index", {f"{age_s}": time.time() - age_s})


def test_a_message_that_a_living_worker_holds_survives_a_recovery_and_the_worker(
    rig: Rig, redis_client: redis.Redis
) -> None:
    """A message delayed beyond the visibility timeout returns to the queue when the worker stops."""
    worker = _started(rig)
    row_id = rig.register(ObjectVersion(rig.bucket, "a.png", 1))
    with rig.database.transaction() as connection:
        claim = claims.claim(connection, row_id, 60)
        assert isinstance(claim, Claim)
        claims.requeue(connection, claim, "storage_unavailable", "tried, and resting", lost=False)
    rig.queue.enqueue_again(row_id, 86400)
    assert worker.wait_for_line(f'"args": "[{row_id}]"', DEADLINE_S)
    (tag,) = redis_client.hkeys("unacked")
    assert isinstance(tag, bytes)
    redis_client.zincrby("unacked_index", -rig.settings.broker.visibility_timeout_s, tag)
    # Like an idle worker: a worker holds the messages of resting rows.
    assert _recovered(rig, resting_s=86400) == set()
    worker.stop()
    with closing(Messages(rig.redis_url)) as messages:
        assert messages.rows()[row_id] == 1


class _UnreliableQueue:
    """The queue of the rig, on a Redis that is unreachable after `most` messages."""

    def __init__(self, queue: CaptionQueue, most: int) -> None:
        self.sent: list[int] = []
        self.begin_recovery = queue.begin_recovery
        self.end_recovery = queue.end_recovery
        self._queue = queue
        self._most = most

    def enqueue_again(self, row_id: int, countdown_s: float) -> None:
        """Send the message, or raise BrokerUnavailable."""
        if len(self.sent) == self._most:
            raise BrokerUnavailable("Redis went away")
        self._queue.enqueue_again(row_id, countdown_s)
        self.sent.append(row_id)


def _recovered(rig: Rig, most: int = 1_000_000, resting_s: float = 0) -> set[int]:
    queue = _UnreliableQueue(rig.queue, most)
    try:
        Recovery(rig.database, queue, batch=40).run(resting_s)
    except BrokerUnavailable:
        assert len(queue.sent) == most
    return set(queue.sent)


def test_boxes_whose_labels_postgres_cannot_hold_are_recorded(rig: Rig) -> None:
    """NUL and lone surrogates in a structured answer are replaced, as in the text."""
    row_id = rig.register(ObjectVersion(rig.bucket, "a.png", 1))
    with rig.database.transaction() as connection:
        claim = claims.claim(connection, row_id, 60)
        assert isinstance(claim, Claim)
        caption = Caption("a", {"labels": ["a\x00b", "\ud800"], "bboxes": [[1.5]]}, "model", "revision")
        assert claims.record_caption(
            connection, claim, caption, Dimensions(1, 1), size_bytes=1, write_back_lease_s=None
        )
    assert rig.row(row_id)["result"] == {"labels": ["a\N{REPLACEMENT CHARACTER}b", "?"], "bboxes": [[1.5]]}


def test_a_standby_that_is_not_promoted_yet_is_worth_another_try(rig: Rig) -> None:
    """For a writer, a read-only Postgres is unavailable."""
    row_id = rig.register(ObjectVersion(rig.bucket, "a.png", 1))

    def claim() -> None:
        with rig.database.transaction() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            claims.claim(connection, row_id, 60)

    with pytest.raises(DatabaseUnavailable):
        claim()
