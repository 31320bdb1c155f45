"""`dropline redrive` with scale to zero: an emulated Cloud Run, a real Redis and Postgres."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import packages_distributions, requires
from typing import TypeAlias

import pytest
import redis
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sqlalchemy import Connection

from cli.exit_codes import ExitCode
from db.redrivable import FAILED_ROWS, UNWRITTEN_ROWS, Redrivable, RowFilter
from db.session import Database
from dropline.contract import CAPTION_QUEUE, ObjectVersion
from dropline.scaling.mark import MARK_KEY
from dropline.scaling.protocol import AWAKE, SLEEPING
from tests.support import fake_cloud_run
from tests.support.fake_cloud_run import POOL, FakeCloudRun
from tests.support.redrives import leave_unwritten
from tests.support.rows import fail_object, status_of
from tests.support.shell import run

#: Makes a given-up row; returns the id.
Leave: TypeAlias = Callable[[Database, ObjectVersion, str, str], int]

#: Runs the command; importing the named modules fails as if they were not installed.
PROBE = """
import json, sys

class Missing:
    def __init__(self, names):
        self.names = names

    def find_spec(self, name, path=None, target=None):
        if ".".join(name.split(".")[:2]) in self.names or name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing(set(json.loads(sys.argv[1]))))
from cli.main import app
app(["redrive", "--all"])
"""


@pytest.fixture
def pool() -> Iterator[FakeCloudRun]:
    """A worker pool at 0 instances."""
    with fake_cloud_run.serve() as found:
        yield found


@pytest.fixture
def queue(redis_url: str) -> Iterator["redis.Redis"]:
    """A client of the test's Redis."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture(autouse=True)
def environment(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, pool: FakeCloudRun, own_logging: None
) -> None:
    """Environment variables of a function with scale to zero."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", database_url)
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.setenv("DROPLINE_POOL__NAME", POOL)
    monkeypatch.setenv("DROPLINE_POOL__API", pool.url)
    monkeypatch.setenv("DROPLINE_POOL__LEASE_S", "30")


@pytest.fixture
def row_id(database: Database) -> int:
    """A failed row."""
    return fail_object(database, ObjectVersion("drops", "a.jpg", 1), "worker_lost", "crashes")


def test_a_sleeping_pool_is_woken_when_there_is_something_to_do(
    pool: FakeCloudRun, queue: "redis.Redis", row_id: int
) -> None:
    """Cloud Run is called after the message is sent, and not called for an awake pool."""
    waiting: list[int] = []
    pool.on_change = lambda _instances: waiting.append(int(queue.llen(CAPTION_QUEUE)))
    assert run("redrive", "--all").exit_code == ExitCode.OK
    assert (pool.history, waiting) == ([1], [1])
    assert queue.get(MARK_KEY) == AWAKE.encode()
    assert run("redrive", "--all").exit_code == ExitCode.OK
    assert pool.history == [1]


@pytest.mark.parametrize("arguments", [["--all", "--dry-run"], ["--bucket", "none"]])
def test_nothing_sent_wakes_nobody(pool: FakeCloudRun, row_id: int, arguments: list[str]) -> None:
    """No GPU starts for a dry run, or if no row passes the filters."""
    assert run("redrive", *arguments).exit_code == ExitCode.OK
    assert pool.history == []


def test_a_busy_cloud_run_is_asked_again(pool: FakeCloudRun, row_id: int, connection: Connection) -> None:
    """A temporary refusal is retried and reported."""
    pool.fail(503)
    result = run("redrive", "--all")
    assert result.exit_code == ExitCode.OK
    assert "trying again in 1 s" in result.stderr
    assert pool.history == [1]
    assert status_of(connection, row_id) == "queued"


def test_a_pool_that_falls_asleep_this_moment_is_woken_after_that(
    pool: FakeCloudRun, queue: "redis.Redis", row_id: int
) -> None:
    """Cloud Run is not called while a worker's mark exists, and is called after the mark has expired."""
    queue.set(MARK_KEY, f"{SLEEPING}x", px=1500)
    result = run("redrive", "--all")
    assert result.exit_code == ExitCode.OK
    assert "scaling the worker pool to zero" in result.stderr
    assert pool.history == [1]


def test_a_pool_that_may_not_be_woken(
    pool: FakeCloudRun, connection: Connection, row_id: int, queue: "redis.Redis"
) -> None:
    """Without the permission the command fails, and the row is queued; the next run wakes the pool."""
    pool.fail(403)
    result = run("redrive", "--all")
    assert result.exit_code == ExitCode.FAILED
    assert "1 rows are queued" in result.stderr
    assert (status_of(connection, row_id), pool.history) == ("queued", [])
    assert run("redrive", "--all").exit_code == ExitCode.OK
    assert pool.history == [1]
    assert status_of(connection, row_id) == "queued"


def test_the_functions_extra_is_enough(pool: FakeCloudRun, connection: Connection, row_id: int) -> None:
    """A whole run with scale to zero, with only the distributions of `dropline[function]`."""
    needed = installed_with("dropline", "function")
    missing = {
        module
        for module, providers in packages_distributions().items()
        if not {canonicalize_name(each) for each in providers} & needed
    }
    # A package of many distributions; the function requires google-auth.
    missing |= {
        "google.api_core",
        "google.cloud",
        "google.iam",
        "google.protobuf",
        "google.pubsub_v1",
        "google.rpc",
    }
    assert {"torch", "numpy", "PIL", "transformers", "grpc"} <= missing
    assert not {"celery", "google", "redis", "requests"} & missing
    command = [sys.executable, "-c", PROBE, json.dumps(sorted(missing))]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (status_of(connection, row_id), pool.history) == ("queued", [1])


def installed_with(distribution: str, extra: str = "") -> set[str]:
    """The names of a distribution and of all its requirements."""
    found: set[str] = set()
    waiting = [(distribution, extra)]
    while waiting:
        name, wanted = waiting.pop()
        if f"{name}[{wanted}]" in found:
            continue
        found |= {name, f"{name}[{wanted}]"}
        for line in requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": wanted}):
                waiting += [(canonicalize_name(needed.name), each) for each in ("", *needed.extras)]
    return found


@pytest.mark.parametrize(
    ("leave", "kind", "option"),
    [(fail_object, FAILED_ROWS, []), (leave_unwritten, UNWRITTEN_ROWS, ["--metadata"])],
)
def test_what_a_killed_redrive_left_behind_gets_workers_by_the_next_one(
    database: Database, pool: FakeCloudRun, leave: Leave, kind: Redrivable, option: list[str]
) -> None:
    """After a kill right after the commit the rows are due, and the next run wakes the pool."""
    row_id = leave(database, ObjectVersion("drops", "left.jpg", 1), "access_denied", "x")
    with database.transaction() as inside:
        assert [row.row_id for row in kind.redrive(inside, RowFilter(), 0, 500)] == [row_id]
    assert run("redrive", "--all", *option).exit_code == 0
    assert pool.history == [1]
    with database.transaction() as inside:
        assert kind.redrive(inside, RowFilter(), 0, 500) == []


def test_a_copy_to_be_made_wakes_a_sleeping_pool(
    database: Database, pool: FakeCloudRun, queue: "redis.Redis"
) -> None:
    """Cloud Run is called after the message is sent, and again by the next run if the pool could not be woken."""
    leave_unwritten(database, ObjectVersion("drops", "b.jpg", 1), "access_denied", "x")
    pool.fail(403)
    refused = run("redrive", "--metadata", "--all")
    assert refused.exit_code == ExitCode.FAILED
    assert "1 rows are queued" in refused.stderr
    assert pool.history == []
    queue.delete(CAPTION_QUEUE)
    waiting: list[int] = []
    pool.on_change = lambda _instances: waiting.append(int(queue.llen(CAPTION_QUEUE)))
    assert run("redrive", "--metadata", "--all").exit_code == ExitCode.OK
    assert (pool.history, waiting) == ([1], [1])


def test_a_redrive_with_nothing_to_do_wakes_nobody(pool: FakeCloudRun) -> None:
    """Without failed or unfinished rows, Cloud Run is not called."""
    assert run("redrive", "--all").exit_code == 0
    assert pool.history == []
