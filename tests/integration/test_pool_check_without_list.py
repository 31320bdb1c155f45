"""The check of the worker pool where Redis does not list its connections: what Postgres says of the workers."""

from collections.abc import Iterator

import psycopg
import pytest
from flask import Flask
from redis import Redis

from db import claims, workers
from db.workers import NewWorker
from dropline.contract import ObjectVersion
from dropline.settings import PoolSettings
from tests.integration.test_pool_that_cannot_start import CHECK_S, call_last, checks, problems
from tests.integration.test_scale_to_zero import function_of, send
from tests.support import fake_cloud_run, fake_cloud_tasks
from tests.support.fake_cloud_run import POOL, FakeCloudRun
from tests.support.fake_cloud_tasks import QUEUE, FakeCloudTasks
from tests.support.worker_rig import Rig

_USER = "without-list"
_BEFORE_S, _SINCE_S = 100 * CHECK_S, CHECK_S / 2


@pytest.fixture
def cloud_run() -> Iterator[FakeCloudRun]:
    with fake_cloud_run.serve() as found:
        yield found


@pytest.fixture
def tasks() -> Iterator[FakeCloudTasks]:
    with fake_cloud_tasks.serve() as found:
        yield found


@pytest.fixture
def app(
    rig: Rig, cloud_run: FakeCloudRun, tasks: FakeCloudTasks, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Flask]:
    """A function whose user of Redis may not list the connections, after an event: check 0 is next."""
    pool = PoolSettings(
        name=POOL,
        api=cloud_run.url,
        check_s=CHECK_S,
        wake_queue=QUEUE,
        wake_url="https://function.example/wake",
        wake_api=tasks.url,
    )
    with Redis.from_url(rig.redis_url) as client:
        client.execute_command("ACL", "SETUSER", _USER, "on", ">secret", "~*", "&*", "+@all", "-client|list")
        rig.redis_url = rig.redis_url.replace(":test@", f"{_USER}:secret@")
        try:
            with function_of(rig, pool, monkeypatch) as found:
                assert send(found, ObjectVersion(rig.bucket, "a.png", 1)) == 204
                yield found
        finally:
            client.execute_command("ACL", "DELUSER", _USER)


def start(rig: Rig, name: str, ago_s: float) -> None:
    """As a worker that became ready so long ago, and was killed or runs."""
    with rig.database.transaction() as connection:
        workers.insert(connection, NewWorker(name, "host", "demo", "1", "cuda:0", 32), ago_s)


def begin(rig: Rig, name: str, ago_s: float) -> None:
    """As a child of the worker that began a further image so long ago."""
    row_id = rig.register(ObjectVersion(rig.bucket, f"{name}.png", 1))
    with rig.database.statement() as connection:
        claims.claim(connection, row_id, 600, f"{name}/1")
    # The due row of the event may have been claimed in its place.
    with psycopg.connect(rig.database_url) as connection:
        connection.execute(
            "UPDATE captions SET started_at = now() - make_interval(secs => %s) WHERE claimed_by IS NOT NULL",
            (ago_s,),
        )


def test_a_worker_that_was_killed_before_the_call_ends_no_checks(
    rig: Rig, app: Flask, cloud_run: FakeCloudRun, tasks: FakeCloudTasks
) -> None:
    """Its row is open for ever: the checks go on, until a worker has started since the call."""
    start(rig, "killed", _BEFORE_S)
    assert call_last(app, tasks) == 204
    assert checks(tasks)[-1][0] == 1
    assert call_last(app, tasks) == 204
    assert (checks(tasks)[-1][0], cloud_run.history) == (2, [1, 1])
    (problem,) = problems(rig)
    assert "Cloud Run names no reason" in str(problem["reason"])
    start(rig, "ready", _SINCE_S)
    taken = len(tasks.tasks)
    assert call_last(app, tasks) == 204
    assert (len(tasks.tasks), cloud_run.history) == (taken, [1, 1])


def test_a_worker_that_works_since_long_before_the_call_ends_the_checks(
    rig: Rig, app: Flask, tasks: FakeCloudTasks
) -> None:
    """One needless call in ten minutes of steady work: no alarm, and no further call."""
    start(rig, "busy", _BEFORE_S)
    begin(rig, "busy", _SINCE_S)
    taken = len(tasks.tasks)
    assert call_last(app, tasks) == 204
    assert (len(tasks.tasks), problems(rig)) == (taken, [])


@pytest.mark.parametrize(
    ("ready_s", "began_s", "is_stopped", "is_active"),
    [
        (_SINCE_S, None, False, True),
        (_SINCE_S, None, True, False),
        (_BEFORE_S, None, False, False),
        (_BEFORE_S, _SINCE_S, False, True),
        (_BEFORE_S, _SINCE_S, True, False),
        (_BEFORE_S, _BEFORE_S, False, False),
    ],
)
def test_what_makes_a_worker_active(
    rig: Rig, ready_s: float, began_s: float | None, is_stopped: bool, is_active: bool
) -> None:
    """Ready, or an attempt, within the time; and no stop. Also where the image is captioned already."""
    start(rig, "a", ready_s)
    start(rig, "killed", _BEFORE_S)
    if began_s is not None:
        begin(rig, "a", began_s)
    with rig.database.transaction() as connection:
        if is_stopped:
            workers.set_stopped(connection, "a")
        assert workers.is_any_active(connection, CHECK_S) is is_active
        connection.exec_driver_sql(
            "UPDATE captions SET status = 'captioned', caption = 'a', model = 'demo', model_revision = '1', "
            "captioned_at = now(), lease_until = NULL"
        )
        assert workers.is_any_active(connection, CHECK_S) is is_active
