"""A Redis that refuses writes for a while: one line and growing pauses in the worker, 503 in the function."""

import json
from collections.abc import Iterator
from contextlib import closing

import pytest
import redis

from dropline.broker.queue import CaptionQueue
from dropline.deadline import Deadline
from dropline.errors import BrokerUnavailable
from local_emulators.ports import free_ports
from tests.support.worker_rig import DEADLINE_S, Rig, png


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """An administrator of Redis; at the end the server is a primary again."""
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.replicaof("NO", "ONE")


def test_a_promotion_is_one_line(rig: Rig, client: redis.Redis) -> None:
    """The worker reconnects when Redis takes writes again; equal errors are one line."""
    worker = rig.worker()
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    with closing(CaptionQueue.connect(rig.settings.broker)) as queue:
        client.replicaof("127.0.0.1", free_ports(1)[0])
        for _ in range(40):
            with pytest.raises(BrokerUnavailable, match="the primary takes writes"):
                queue.enqueue(1, Deadline.after(10))
    assert worker.wait_for_line("Cannot connect to redis", DEADLINE_S)
    client.replicaof("NO", "ONE")
    (row,) = rig.wait_settled([rig.register(rig.upload("a.png", png()))])
    assert row["status"] == "captioned"
    assert worker.alive
    records = [json.loads(line) for line in worker.log_path.read_text().splitlines() if line.startswith("{")]
    troubles = [each for each in records if each["severity"] != "INFO" and each.get("logger") != "py.warnings"]
    # The lost connection, and the first attempt to connect again.
    assert len(troubles) <= 3, troubles
