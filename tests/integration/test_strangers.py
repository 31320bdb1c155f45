"""What a stranger writes to the keys of the queue is set aside with a log line, and Dropline goes on."""

import base64
import json
from collections.abc import Iterator

import pytest
import redis

from dropline.broker.lengths import read_lengths
from dropline.broker.transport import STRANGERS_KEY
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
from dropline.deadline import Deadline
from dropline.errors import BrokerUnavailable
from tests.support.worker_rig import DEADLINE_S, Rig, png

#: Valid for kombu, and with headers that end Celery.
ENVELOPE = {
    "body": base64.b64encode(b"[[1], {}, {}]").decode(),
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {"task": CAPTION_TASK, "id": ["x"], "timelimit": 5},
    "properties": {
        "delivery_tag": "t",
        "body_encoding": "base64",
        "delivery_info": {"exchange": "", "routing_key": "x"},
    },
}
MESSAGES = (
    b"BADJSON",
    b"[]",
    b"{}",
    b'{"properties": {}}',
    b"\xff\xfe\x00",
    b"x" * 10_000_000,
    json.dumps(ENVELOPE).encode(),
    json.dumps(ENVELOPE | {"body": "not base64"}).encode(),
)


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """A stranger's client, on an empty Redis at the end."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.flushall()


def put_junk(client: redis.Redis) -> None:
    """Messages on the queue, entries of messages taken, and a member of kombu's table of queues."""
    client.rpush(CAPTION_QUEUE, *MESSAGES)
    client.sadd(f"_kombu.binding.{CAPTION_QUEUE}", "junk")
    client.hset("unacked", mapping={"a": "BADJSON", "b": "[1]", "c": b"\xff", "d": "[1, 2, 3]"})
    client.zadd("unacked_index", dict.fromkeys("abcde", 1.0))


def test_a_strangers_messages_end_no_worker(rig: Rig, client: redis.Redis) -> None:
    """Messages before the start and while the worker runs: one line each, bounded, and none stays."""
    put_junk(client)
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    put_junk(client)
    (row,) = rig.wait_settled([rig.drop("good.png", png())])
    assert row["status"] == "captioned"
    assert worker.alive
    assert client.llen(CAPTION_QUEUE) == 0
    assert client.llen(STRANGERS_KEY) >= 2 * len(MESSAGES)
    log = worker.log_path.read_text()
    lines = [line for line in log.splitlines() if "stranger_message_set_aside" in line]
    assert len(lines) >= 1
    assert max(map(len, lines)) < 2000
    assert "Traceback" not in log


def test_keys_of_another_type_end_no_worker(rig: Rig, client: redis.Redis) -> None:
    """The key is renamed, at a worker's start and when a command meets it; the next delivery works."""
    keys = (CAPTION_QUEUE, "unacked", "unacked_index", f"_kombu.binding.{CAPTION_QUEUE}")
    client.mset(dict.fromkeys(keys, "x"))
    with pytest.raises(BrokerUnavailable, match="another program wrote a value under this key"):
        read_lengths(rig.settings.broker)
    rig.queue.enqueue(1, Deadline.after(10))
    client.delete(*keys)
    client.mset(dict.fromkeys(keys, "x"))
    with pytest.raises(BrokerUnavailable):
        rig.queue.enqueue(1, Deadline.after(10))
    rig.queue.enqueue(1, Deadline.after(10))
    client.mset(dict.fromkeys(keys, "x"))
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    client.delete(*keys)
    client.mset(dict.fromkeys(keys, "x"))
    row_id = rig.register(rig.upload("good.png", png()))
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"
    assert worker.alive
    assert client.get(f"{CAPTION_QUEUE}.stranger") == b"x"
