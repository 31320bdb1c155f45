"""Scale to zero with a Redis that has a replica, and a failover to the replica."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from dropline.scaling.deactivation import Deactivator
from dropline.scaling.errors import PoolChanging
from dropline.scaling.mark import MARK_KEY, PoolMark
from dropline.scaling.protocol import (
    AWAKE,
    SLEEPING,
    Admission,
    BeginScaleToZero,
    ConfirmMark,
    ReplaceMark,
    ScaleToZeroOutcome,
    ScalingPolicy,
    run_procedure,
    scale_up,
)
from dropline.scaling.worker_pool import make_worker_pool
from local_emulators import redis
from local_emulators.ports import HOST, free_ports
from local_emulators.redis import RedisServer
from local_emulators.supervisor import Supervisor
from tests.support import fake_cloud_run
from tests.support.engines import wait_until
from tests.support.fake_cloud_run import POOL

RENEWAL = ConfirmMark(SLEEPING + "1", 60)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """A primary and its replica."""
    ports = free_ports(2)
    with Supervisor(tmp_path / "primary") as first, Supervisor(tmp_path / "replica") as second:
        primary = redis.start(first, tmp_path / "1", ports[0], "test")
        replica = redis.start(second, tmp_path / "2", ports[1], "test")
        with Redis.from_url(primary.url) as client, Redis.from_url(replica.url) as other:
            client.config_set("repl-diskless-sync-delay", 0)
            other.config_set("masterauth", "test")
            other.replicaof(HOST, ports[0])
            wait_until(lambda: client.set("a", "b") and client.wait(1, 100) == 1)
        yield primary, replica


@contextmanager
def open_mark(server: RedisServer) -> Iterator[PoolMark]:
    with closing(PoolMark.connect(server.url, timeout_s=30)) as mark:
        yield mark


def test_a_confirmed_mark_survives_a_failover(servers: tuple[RedisServer, RedisServer]) -> None:
    """The replica has the mark when the answer is True, so an event after the failover is not acknowledged."""
    primary, replica = servers
    with open_mark(primary) as mark:
        mark.replace(ReplaceMark(None, AWAKE, 600))
        assert mark.begin(BeginScaleToZero(RENEWAL.mark, 60)) is Admission.GRANTED
        assert mark.confirm(RENEWAL)
        assert not mark.confirm(ConfirmMark(SLEEPING + "2", 60))
        primary.service.kill()
    with Redis.from_url(replica.url) as client:
        client.replicaof("NO", "ONE")
    with open_mark(replica) as mark, pytest.raises(PoolChanging):
        run_procedure(scale_up("f", ScalingPolicy()), lambda _: mark.read())


def test_a_redis_that_refuses_to_name_its_replicas_is_taken_for_one_without(
    servers: tuple[RedisServer, RedisServer],
) -> None:
    """A user without the dangerous commands: the worker pool sleeps; a failover may cost an image time."""
    primary, _ = servers
    with Redis.from_url(primary.url) as client:
        client.execute_command("ACL", "SETUSER", "worker", "on", ">test", "~*", "+@all", "-@dangerous")
    url = primary.url.replace("redis://:test", "redis://worker:test")
    with closing(PoolMark.connect(url, timeout_s=30)) as mark:
        assert mark.begin(BeginScaleToZero(RENEWAL.mark, 60)) is Admission.GRANTED
        assert mark.confirm(RENEWAL)


def test_a_replica_that_lags_behind_keeps_the_pool_up(servers: tuple[RedisServer, RedisServer]) -> None:
    """It may still have `awake`: Cloud Run is not called, and the mark is gone; the next try may succeed."""
    primary, replica = servers
    with (
        fake_cloud_run.serve() as cloud_run,
        open_mark(primary) as mark,
        closing(make_worker_pool(POOL, cloud_run.url)) as pool,
        Redis.from_url(primary.url) as client,
    ):
        deactivator = Deactivator(mark, pool, ScalingPolicy(), lambda: None)
        replica.service.signal(signal.SIGSTOP)
        assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.ABANDONED
        assert (cloud_run.history, client.exists(MARK_KEY)) == ([], 0)
        replica.service.signal(signal.SIGCONT)
        client.wait(1, 0)
        assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP
        assert cloud_run.history == [0]
