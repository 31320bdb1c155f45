"""No row is lost to a full Redis, a missing table or a standby."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
import redis

from benchmarks.stack import Messages
from db import attempts, claims
from dropline.broker.transport import Channel
from dropline.contract import CAPTION_QUEUE, Caption, Claim, Dimensions, ObjectVersion
from dropline.errors import DatabaseUnavailable
from local_emulators.supervisor import Service
from tests.support.worker_rig import DEADLINE_S, Rig, png


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    """A client of the test's Redis; the limit of memory is removed at the end."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.config_set("maxmemory", "0")


def _started(rig: Rig) -> Service:
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    return worker


def test_a_redis_without_memory_costs_neither_the_worker_nor_a_message(
    rig: Rig, redis_client: redis.Redis
) -> None:
    """The row of a message that Redis sent and could not record is found by the same worker's next look."""
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
    """No BRPOP waits then, and the Redis client reconnects silently: the worker looks after the disconnection."""
    worker = rig.worker(DROPLINE_WORKER__CONCURRENCY="1", DROPLINE_DATABASE__STATEMENT_TIMEOUT_MS="60000")
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    busy, *waiting = [rig.register(rig.upload(f"{n}.png", png((n, 0, 24)))) for n in range(3)]
    with psycopg.connect(rig.database_url) as blocker:
        blocker.execute("LOCK TABLE captions IN SHARE MODE")
        rig.enqueue(busy)
        assert worker.wait_for_line(f'"args": "[{busy}]"', DEADLINE_S)
        for row_id in waiting:
            rig.enqueue(row_id)
        redis_client.flushall()
        redis_client.client_kill_filter(_type="normal", skipme=True)
    assert {row["status"] for row in rig.wait_settled([busy, *waiting])} == {"captioned"}
    assert worker.alive


def test_a_message_that_redis_refuses_is_sent_by_the_next_look(rig: Rig, redis_client: redis.Redis) -> None:
    """A claim fails while Redis refuses writes: the parent looks until Redis takes the message of the due row."""
    worker = _started(rig)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 22))))
    with psycopg.connect(rig.database_url) as blocker:
        # Redis has recorded the message, and the claim waits. Then Redis is full, and the claim times out.
        blocker.execute("LOCK TABLE captions IN SHARE MODE")
        rig.enqueue(row_id)
        assert worker.wait_for_line(f'"args": "[{row_id}]"', DEADLINE_S)
        redis_client.config_set("maxmemory", "1")
        assert worker.wait_for_line("row_waits_for_postgres", DEADLINE_S)
    assert worker.wait_for_line("look_failed", DEADLINE_S)
    redis_client.config_set("maxmemory", "0")
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"


def test_a_statement_that_cannot_succeed_yet_is_made_again(rig: Rig) -> None:
    """Without the table, the worker looks again and again; the row is captioned once the table exists."""
    worker = _started(rig)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 23))))
    with psycopg.connect(rig.database_url, autocommit=True) as admin:
        admin.execute("ALTER TABLE captions RENAME TO away")
        rig.enqueue(row_id)
        assert worker.wait_for_line("run `python -m migrations` on it", DEADLINE_S)
        admin.execute("ALTER TABLE away RENAME TO captions")
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"


def test_the_row_of_a_dead_worker_is_claimed_at_the_end_of_its_lease(rig: Rig) -> None:
    """No message is there then: the alarm of the worker that took the early message looks."""
    worker = _started(rig)
    row_id = rig.register(rig.upload("a.png", png((1, 0, 24))))
    with rig.database.statement() as connection:
        claims.claim(connection, row_id, 3, "dead/1")
    rig.enqueue(row_id)
    assert worker.wait_for_line("nothing is due", DEADLINE_S)
    (row,) = rig.wait_settled([row_id])
    assert (row["status"], row["lost_attempts"]) == ("captioned", 1)


def test_a_look_hands_out_again_what_was_taken_too_long_ago(rig: Rig, redis_client: redis.Redis) -> None:
    """A dead worker's message returns to the queue, once; a recently taken message stays with the worker."""
    rows = {age_s: rig.register(ObjectVersion(rig.bucket, f"{age_s}", 1)) for age_s in (1860.0, 60.0)}
    for age_s, row_id in rows.items():
        rig.enqueue(row_id)
        _take(redis_client, age_s)
    # A worker declares the queue; a process that has declared it before this Redis was emptied does not.
    redis_client.sadd(f"_kombu.binding.{CAPTION_QUEUE}", Channel.sep.join((CAPTION_QUEUE, "", CAPTION_QUEUE)))
    rig.queue.restore_overdue()
    with closing(Messages(rig.redis_url)) as messages:
        assert messages.rows() == {rows[1860.0]: 1}
    assert redis_client.hkeys("unacked") == redis_client.zrange("unacked_index", 0, -1) == [b"60.0"]


def test_no_more_messages_wait_than_the_sender_allows(rig: Rig, redis_client: redis.Redis) -> None:
    """Senders at once do not exceed the limit, and an emptied queue takes messages again."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda row_id: rig.queue.wake(row_id, 10), range(1, 101)))
    assert redis_client.llen(CAPTION_QUEUE) == 10
    rig.queue.wake(200, 11)
    assert redis_client.llen(CAPTION_QUEUE) == 11
    redis_client.delete(CAPTION_QUEUE)
    rig.queue.wake(1, 1)
    assert redis_client.llen(CAPTION_QUEUE) == 1


def _take(redis_client: redis.Redis, age_s: float) -> None:
    """Take the next message, as if a worker had taken the message `age_s` seconds ago."""
    message = redis_client.rpop(CAPTION_QUEUE)
    assert isinstance(message, bytes)
    redis_client.hset("unacked", f"{age_s}", json.dumps([json.loads(message), CAPTION_QUEUE, CAPTION_QUEUE]))
    redis_client.zadd("unacked_index", {f"{age_s}": time.time() - age_s})


def test_boxes_whose_labels_postgres_cannot_hold_are_recorded(rig: Rig) -> None:
    """NUL and lone surrogates in a structured answer are replaced, as in the text."""
    row_id = rig.register(ObjectVersion(rig.bucket, "a.png", 1))
    with rig.database.transaction() as connection:
        claim = claims.claim(connection, row_id, 60, "test/1").work
        assert isinstance(claim, Claim)
        caption = Caption("a", {"labels": ["a\x00b", "\ud800"], "bboxes": [[1.5]]}, "model", "revision")
        assert attempts.record_caption(
            connection, claim, caption, Dimensions(1, 1), size_bytes=1, write_back_lease_s=None
        ).held
    assert rig.row(row_id)["result"] == {"labels": ["a\N{REPLACEMENT CHARACTER}b", "?"], "bboxes": [[1.5]]}


def test_a_standby_that_is_not_promoted_yet_is_worth_another_try(rig: Rig) -> None:
    """For a writer, a read-only Postgres is unavailable."""
    row_id = rig.register(ObjectVersion(rig.bucket, "a.png", 1))

    def claim() -> None:
        with rig.database.transaction() as connection:
            connection.exec_driver_sql("SET TRANSACTION READ ONLY")
            claims.claim(connection, row_id, 60, "test/1")

    with pytest.raises(DatabaseUnavailable):
        claim()
