"""Faults of Redis and of the connections to Redis, under a real worker."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
import redis

from tests.support.engines import wait_until
from tests.support.failpoints import INFERENCE_VARIABLE, inferences
from tests.support.tcp_proxy import open_proxy
from tests.support.worker_rig import DEADLINE_S, Rig, png


@pytest.fixture
def client(rig: Rig) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(rig.redis_url) as found:
        yield found


def _captioned_once(rig: Rig, ids: list[int]) -> None:
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["attempts"]) for row in rows} == {("captioned", 1)}
    assert len(inferences(rig.directory)) == len(ids)


def test_fault_19_connections_dropped_ten_times(rig: Rig, client: redis.Redis) -> None:
    """Each time the worker takes messages again, and no image is captioned twice."""
    worker = rig.worker(**{INFERENCE_VARIABLE: "0.02"})
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    ids = []
    for number in range(10):
        ids += [rig.drop(f"{number}-{n}.png", png((number, n, 19), (4, 4))) for n in range(3)]
        client.client_kill_filter(_type="normal", skipme=True)
        rig.wait_settled(ids[-3:])
    _captioned_once(rig, ids)


def test_fault_20_a_half_open_connection(rig: Rig, client: redis.Redis) -> None:
    """Every connection of the worker goes silent without an end: the worker connects again, and finds the rows."""
    address = urlsplit(rig.redis_url)
    assert address.hostname
    assert address.port
    with open_proxy(address.hostname, address.port) as proxy:
        through = rig.redis_url.replace(f":{address.port}/", f":{proxy.port}/")
        rig.module = "tests.support.impatient_worker"
        worker = rig.worker(DROPLINE_BROKER__URL=through, DROPLINE_BROKER__POLLING_INTERVAL_S="1")
        assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
        _captioned_once(rig, [rig.drop("before.png", png((0, 0, 20)))])
        wait_until(lambda: client.hlen("unacked") == 0)
        proxy.silence()
        later = rig.drop("after.png", png((1, 0, 20)))
        (row,) = rig.wait_settled([later])
        assert (row["status"], row["attempts"]) == ("captioned", 1)
        assert worker.alive
        worker.stop()


def test_fault_39_an_old_snapshot_returns(rig: Rig, client: redis.Redis) -> None:
    """Messages of finished rows come back, and messages of later rows are gone: no image runs twice."""
    old = [rig.drop(f"{n}.png", png((n, 0, 39), (4, 4))) for n in range(10)]
    snapshot = {key: client.dump(key) for key in client.keys("*")}
    worker = rig.worker()
    rig.wait_settled(old)
    later = [rig.register(rig.upload(f"later-{n}.png", png((n, 1, 39), (4, 4)))) for n in range(10)]
    client.flushall()
    for key, value in snapshot.items():
        assert value is not None
        client.restore(key, 0, value)
    _captioned_once(rig, [*old, *later])
    assert worker.alive
