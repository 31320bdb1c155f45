"""A redo with real workers, while the worker, Redis and the command are killed."""

from contextlib import closing

from local_emulators.redis import RedisServer
from tests.support.redo_run import RedoRun
from tests.support.worker_rig import DEADLINE_S, Rig


def test_a_redo_under_kills_replaces_each_caption_once_and_hides_none(rig: Rig, redis_server: RedisServer) -> None:
    """200 rows; `python -m tests.chaos.redo` has 2,000, and leases that end by themselves."""
    with closing(RedoRun(rig, redis_server, 200, DEADLINE_S, ends_leases=True)) as run:
        report = run.carry_out(worker_kills=2, redis_kills=1)
    assert report.faults == []
