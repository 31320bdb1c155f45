"""A worker pool without a worker: failed starts that are counted, the hold at 0, the checks, and what ends them.

Real Postgres and Redis, real workers with an engine that cannot be used; Cloud Run and Cloud Tasks are emulated.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from flask import Flask
from psycopg.rows import dict_row
from redis import Redis

from cli.exit_codes import ExitCode
from db import pool_problems
from db.session import Database
from dropline.broker.workers import read_workers
from dropline.contract import ObjectVersion
from dropline.errors import DroplineError, EngineUnavailable, SettingsError
from dropline.scaling.deactivation import make_deactivator
from dropline.scaling.mark import MARK_KEY
from dropline.scaling.protocol import AWAKE, HELD
from dropline.settings import PoolSettings
from tests.integration.test_scale_to_zero import function_of, send, set_not_before
from tests.support import fake_cloud_run, fake_cloud_tasks
from tests.support.fake_cloud_run import POOL, FakeCloudRun
from tests.support.fake_cloud_tasks import QUEUE, FakeCloudTasks
from tests.support.shell import run
from tests.support.worker_rig import DEADLINE_S, Rig, png
from worker.failed_starts import FailedStarts

CHECK_S = 300
UNUSABLE = SettingsError("torch finds 0 CUDA devices")
NO_GPU = {"code": 8, "message": "Quota exceeded for NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion"}


@pytest.fixture
def cloud_run() -> Iterator[FakeCloudRun]:
    with fake_cloud_run.serve() as found:
        yield found


@pytest.fixture
def tasks() -> Iterator[FakeCloudTasks]:
    with fake_cloud_tasks.serve() as found:
        yield found


@pytest.fixture
def redis(rig: Rig) -> Iterator["Redis"]:
    with Redis.from_url(rig.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def pool(cloud_run: FakeCloudRun, tasks: FakeCloudTasks) -> PoolSettings:
    return PoolSettings(
        name=POOL,
        api=cloud_run.url,
        check_s=CHECK_S,
        wake_queue=QUEUE,
        wake_url="https://function.example/wake",
        wake_api=tasks.url,
    )


@pytest.fixture
def app(rig: Rig, pool: PoolSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    with function_of(rig, pool, monkeypatch) as found:
        yield found


def variables(pool: PoolSettings) -> dict[str, str]:
    """The settings of the worker pool, as environment variables."""
    return {
        f"DROPLINE_POOL__{name.upper()}": str(value)
        for name, value in pool.model_dump(exclude_defaults=True).items()
    }


def problems(rig: Rig) -> list[dict[str, object]]:
    with psycopg.connect(rig.database_url, row_factory=dict_row) as connection:
        return connection.execute("SELECT * FROM pool_problems").fetchall()


def checks(tasks: FakeCloudTasks) -> list[tuple[int, Any]]:
    """Number, and seconds from now, of each check that Cloud Tasks has taken."""
    found = []
    for task, at in zip(tasks.tasks, tasks.times(), strict=True):
        parts = urlsplit(task["httpRequest"]["url"])
        assert parts.path == "/wake/check"
        found.append((int(parse_qs(parts.query)["number"][0]), (at - datetime.now(UTC)).total_seconds()))
    return found


def call_last(app: Flask, tasks: FakeCloudTasks) -> int:
    """Make the call of the last task, as Cloud Tasks does at its time; the status of the answer."""
    parts = urlsplit(tasks.tasks[-1]["httpRequest"]["url"])
    return app.test_client().post(f"{parts.path}?{parts.query}").status_code


def fail_to_start(rig: Rig, pool: PoolSettings, name: str, **further: str) -> None:
    """Start a worker whose engine cannot be used; returns when the worker has ended."""
    rig.module = "tests.support.unusable_worker"
    worker = rig.worker(name, ready="engine_not_started", **variables(pool), **further)
    assert worker.wait_for_exit(DEADLINE_S)
    assert worker.exit_status == 1


def note(rig: Rig, pool: PoolSettings, error: DroplineError) -> None:
    """As a worker that cannot start, on its only try."""
    broker = rig.settings.broker
    FailedStarts(
        pool.model_copy(update={"failed_starts": 1}),
        lambda: Database.connect(rig.settings.database, "test-worker"),
        lambda: make_deactivator(pool, broker, lambda: None),
        lambda: read_workers(broker),
    ).note(error)


def hold(rig: Rig, pool: PoolSettings, redis: "Redis", error: DroplineError = UNUSABLE) -> None:
    note(rig, pool, error)
    assert str(redis.get(MARK_KEY)).startswith(HELD)


@contextmanager
def ready_worker(redis: "Redis") -> Iterator[None]:
    """A connection with the name of a worker."""
    with redis.client() as connection:
        connection.client_setname("dropline-worker-a")
        yield


def test_an_engine_that_cannot_be_used_is_started_three_times(
    rig: Rig,
    pool: PoolSettings,
    cloud_run: FakeCloudRun,
    app: Flask,
    redis: "Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The third start sets 0 and records why; no event wakes the worker pool until its image is another one."""
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    for number in range(3):
        assert cloud_run.history == [1]
        fail_to_start(rig, pool, f"worker-{number}")
    assert cloud_run.history == [1, 0]
    (problem,) = problems(rig)
    assert (problem["failed_starts"], problem["is_permanent"]) == (3, True)
    assert "0 CUDA devices" in str(problem["reason"])
    assert problem["held_at"] is not None
    # Rows and messages are kept, and the events are acknowledged.
    assert [send(app, ObjectVersion(rig.bucket, f"{n}.png", 1)) for n in range(5)] == [204] * 5
    assert cloud_run.history == [1, 0]
    cloud_run.image = "worker:2"
    with function_of(rig, pool, monkeypatch) as another:
        assert send(another, ObjectVersion(rig.bucket, "b.png", 1)) == 204
    assert cloud_run.history == [1, 0, 1]
    assert redis.get(MARK_KEY) == AWAKE


def test_one_broken_machine_does_not_end_the_other_workers(
    rig: Rig, pool: PoolSettings, cloud_run: FakeCloudRun, redis: "Redis"
) -> None:
    """While a worker is ready, starts that fail beside it are not counted."""
    with ready_worker(redis):
        note(rig, pool, UNUSABLE)
    assert (cloud_run.history, problems(rig)) == ([], [])


def test_without_a_pool_a_failed_start_is_not_counted(rig: Rig) -> None:
    """A worker of the local stack ends with its error, as before."""
    fail_to_start(rig, PoolSettings(), "local")
    assert problems(rig) == []


def test_settings_that_do_not_fit_count_too(rig: Rig, pool: PoolSettings, cloud_run: FakeCloudRun) -> None:
    """A worker that ends before its engine would start: too little memory."""
    rig.module = "worker"
    settings = variables(pool.model_copy(update={"failed_starts": 1}))
    worker = rig.worker("small", ready="worker_not_started", DROPLINE_WORKER__MEMORY_BYTES="300000000", **settings)
    assert worker.wait_for_exit(DEADLINE_S)
    assert cloud_run.history == [0]
    (problem,) = problems(rig)
    assert problem["held_at"] is not None


def test_a_ready_worker_ends_the_hold(rig: Rig, pool: PoolSettings, redis: "Redis") -> None:
    """A worker that was started by hand and is ready removes the record and the mark."""
    hold(rig, pool, redis)
    rig.module = "tests.support.failpoint_worker"
    worker = rig.worker("good", **variables(pool))
    assert worker.wait_for_line("worker_row_written", DEADLINE_S)
    assert (problems(rig), redis.get(MARK_KEY)) == ([], None)


def test_a_redrive_ends_the_hold(
    rig: Rig, pool: PoolSettings, cloud_run: FakeCloudRun, redis: "Redis", monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dropline status` names the reason and the command, which wakes the worker pool; a dry run does not."""
    rig.register(ObjectVersion(rig.bucket, "a.png", 1))
    hold(rig, pool, redis)
    environment = {"DROPLINE_DATABASE__URL": rig.database_url, "DROPLINE_BROKER__URL": rig.redis_url}
    for name, value in (environment | variables(pool)).items():
        monkeypatch.setenv(name, value)
    shown = run("status").stdout
    assert "is held at 0 instances since" in shown
    assert "torch finds 0 CUDA devices" in shown
    assert "`dropline redrive --all`" in shown
    assert "no worker is alive: the worker pool is held at 0 instances" in shown
    assert run("redrive", "--all", "--dry-run").exit_code == ExitCode.OK
    assert cloud_run.history == [0]
    assert run("redrive", "--all").exit_code == ExitCode.OK
    assert (cloud_run.history, problems(rig), redis.get(MARK_KEY)) == ([0, 1], [], AWAKE)


def test_a_gpu_that_cannot_be_had_is_recorded_and_tried_again(
    rig: Rig,
    cloud_run: FakeCloudRun,
    tasks: FakeCloudTasks,
    app: Flask,
    redis: "Redis",
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each check without a worker calls 1 again, and the next check is due after twice the pause."""
    cloud_run.operation_failure = NO_GPU
    cloud_run.conditions = [
        {"type": "Ready", "state": "CONDITION_FAILED", "reason": "RESOURCE", "message": "no GPU is free"}
    ]
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert checks(tasks) == [(0, pytest.approx(CHECK_S, abs=60))]
    for number in range(1, 5):
        assert call_last(app, tasks) == 204
        assert checks(tasks)[-1] == (number, pytest.approx(min(3600, CHECK_S * 2**number), abs=60))
        assert cloud_run.history == [1] * (1 + number)
    assert len(cloud_run.waited) == 4
    (problem,) = problems(rig)
    assert "Quota exceeded for NvidiaL4" in str(problem["reason"])
    assert "Ready RESOURCE: no GPU is free" in str(problem["reason"])
    monkeypatch.setenv("DROPLINE_DATABASE__URL", rig.database_url)
    shown = " ".join(run("status").stdout.split())
    assert "the worker pool captions has no GPU since" in shown
    assert "Quota exceeded" in shown
    # A worker that is ready ends the checks.
    taken = len(tasks.tasks)
    with ready_worker(redis):
        assert call_last(app, tasks) == 204
    assert (len(tasks.tasks), len(cloud_run.history)) == (taken, 5)


def test_a_repeated_check_and_a_second_event_do_not_multiply_the_checks(
    rig: Rig, cloud_run: FakeCloudRun, tasks: FakeCloudTasks, app: Flask, redis: "Redis"
) -> None:
    """While the next check is due in the future, another one with an older number ends at once."""
    cloud_run.operation_failure = NO_GPU
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert call_last(app, tasks) == 204
    redis.delete(MARK_KEY)
    assert send(app, ObjectVersion(rig.bucket, "b.png", 1)) == 204
    taken = len(tasks.tasks)
    assert checks(tasks)[-1][0] == 0
    assert call_last(app, tasks) == 204
    assert len(tasks.tasks) == taken


@pytest.mark.parametrize("change", ["set to 0", "held, another image", "due later"])
def test_checks_that_begin_at_0_again_go_on(
    rig: Rig,
    pool: PoolSettings,
    cloud_run: FakeCloudRun,
    tasks: FakeCloudTasks,
    app: Flask,
    redis: "Redis",
    change: str,
) -> None:
    """The next check was to be number 1 or later: the new check 0 takes its place, and is no second chain."""
    cloud_run.operation_failure = NO_GPU
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert call_last(app, tasks) == 204
    if change == "held, another image":
        hold(rig, pool, redis)
        tasks.tasks.pop()  # The earlier checks go on.
        cloud_run.image = "worker:2"
    elif change == "set to 0":
        cloud_run.set(0)
    else:
        set_not_before(rig, "1 hour")
    assert checks(tasks)[-1][0] == 1
    assert call_last(app, tasks) == 204
    assert checks(tasks)[-1][0] == 0
    set_not_before(rig, "0")
    # The time of the earlier check 1 is not reached.
    assert call_last(app, tasks) == 204
    assert checks(tasks)[-1][0] == 1
    (problem,) = problems(rig)
    assert problem["checks"] == 1


def test_a_slow_first_start_is_no_problem(
    rig: Rig, cloud_run: FakeCloudRun, tasks: FakeCloudTasks, app: Flask
) -> None:
    """Without a reason from Cloud Run, the first check only has the second one called."""
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert call_last(app, tasks) == 204
    assert (checks(tasks)[-1][0], problems(rig), cloud_run.history) == (1, [], [1])
    assert call_last(app, tasks) == 204
    (problem,) = problems(rig)
    assert "Cloud Run names no reason" in str(problem["reason"])
    assert cloud_run.history == [1, 1]


def test_no_image_waits_at_zero_while_the_pool_counts_as_awake(
    rig: Rig, cloud_run: FakeCloudRun, tasks: FakeCloudTasks, app: Flask, redis: "Redis"
) -> None:
    """An apply writes back the 0 that it read, just after an event has scaled up: the check scales up again."""
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    cloud_run.set(0)
    assert redis.get(MARK_KEY) == AWAKE
    assert call_last(app, tasks) == 204
    assert cloud_run.history == [1, 0, 1]
    assert (checks(tasks)[-1][0], problems(rig)) == (0, [])


def test_a_worker_that_is_stopped_has_the_pool_checked(
    rig: Rig, pool: PoolSettings, cloud_run: FakeCloudRun, tasks: FakeCloudTasks, app: Flask
) -> None:
    """An upgrade stops a worker while a row waits for its time, and no event follows: the check wakes the pool."""
    row_id = rig.register(rig.upload("resting.png", png()))
    set_not_before(rig, "1 hour")
    rig.worker(**variables(pool)).stop()
    assert checks(tasks) == [(0, pytest.approx(3600, abs=120))]
    set_not_before(rig, "0")
    assert call_last(app, tasks) == 204
    assert cloud_run.history == [1]
    assert rig.row(row_id)["status"] == "queued"


def test_a_stopped_worker_without_rows_has_nothing_checked(
    rig: Rig, pool: PoolSettings, tasks: FakeCloudTasks
) -> None:
    """The next event scales the worker pool up, as before."""
    rig.worker(**variables(pool)).stop()
    assert tasks.tasks == []


@pytest.mark.parametrize(
    ("error", "history"), [(UNUSABLE, [0]), (EngineUnavailable("the model hub is away"), [0, 1])]
)
def test_a_held_pool_is_checked_until_something_changes(
    rig: Rig,
    pool: PoolSettings,
    cloud_run: FakeCloudRun,
    tasks: FakeCloudTasks,
    app: Flask,
    redis: "Redis",
    error: DroplineError,
    history: list[int],
) -> None:
    """A fault that may end by itself is tried again at each check; another one waits for another image."""
    rig.register(ObjectVersion(rig.bucket, "a.png", 1))
    hold(rig, pool, redis, error)
    assert checks(tasks)[-1][0] == 0
    assert call_last(app, tasks) == 204
    assert cloud_run.history == history
    assert checks(tasks)[-1] == (1, pytest.approx(2 * CHECK_S, abs=60))
    cloud_run.image = "worker:2"
    assert call_last(app, tasks) == 204
    assert cloud_run.history[-1] == 1


def test_a_check_while_a_worker_scales_to_zero_is_repeated(
    rig: Rig, tasks: FakeCloudTasks, app: Flask, redis: "Redis"
) -> None:
    """Cloud Tasks calls again after 503."""
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    redis.set(MARK_KEY, "sleeping:x", px=60_000)
    assert call_last(app, tasks) == 503


def test_a_task_that_is_not_taken_does_not_refuse_the_event(
    rig: Rig, cloud_run: FakeCloudRun, tasks: FakeCloudTasks, app: Flask
) -> None:
    """The worker pool was called; the check alone is missing, and the log has the reason."""
    tasks.failures.append(503)
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert (cloud_run.history, tasks.tasks) == ([1], [])


def test_a_lost_chain_of_checks_is_taken_over() -> None:
    """A check that is ten minutes late is lost; another one, of any number, is then the next."""
    now = datetime.now(UTC)
    problem = pool_problems.PoolProblem("p", now, "r", 3, now, 0, "", False, None)
    assert problem.is_turn_of(3, now)
    assert not problem.is_turn_of(0, now + timedelta(minutes=9))
    assert problem.is_turn_of(0, now + timedelta(minutes=11))
