"""Scale to zero with real processes, Redis, Postgres and emulated Cloud Storage; an emulated Cloud Run starts and
stops the workers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from time import monotonic, sleep

import psycopg
import pytest
from flask import Flask
from pydantic import SecretStr
from redis import Redis
from sqlalchemy.exc import NoResultFound

from dropline.contract import CAPTION_QUEUE, ObjectVersion
from dropline.scaling.mark import MARK_KEY
from dropline.scaling.protocol import AWAKE, SLEEPING
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, PoolSettings, Settings
from tests.support import fake_cloud_run, fake_cloud_tasks
from tests.support.cloud_run_pool import WorkerProcesses
from tests.support.deliveries import Delivery, push
from tests.support.fake_cloud_run import POOL, FakeCloudRun
from tests.support.fake_cloud_tasks import QUEUE
from tests.support.function import deliver, deliver_all, serve
from tests.support.scaling_place import eventually
from tests.support.worker_rig import DEADLINE_S, Rig, png
from trigger_fn import activation, service
from trigger_fn.endpoint import REQUEST_BUDGET_S

IDLE_S = 2.0
SHORT_WAIT_S = 1.0


@pytest.fixture
def cloud_run() -> Iterator[FakeCloudRun]:
    with fake_cloud_run.serve() as found:
        yield found


@pytest.fixture
def redis(rig: Rig) -> Iterator["Redis"]:
    with Redis.from_url(rig.redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def app(rig: Rig, cloud_run: FakeCloudRun, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function, with the emulated worker pool."""
    with function_of(rig, PoolSettings(name=POOL, api=cloud_run.url), monkeypatch) as found:
        yield found


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request waits a second for Cloud Run, after row and message."""
    monkeypatch.setattr(activation, "WAKE_BUDGET_S", SHORT_WAIT_S)


@contextmanager
def function_of(rig: Rig, pool: PoolSettings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    settings = Settings(
        database=DatabaseSettings(url=SecretStr(rig.database_url)),
        broker=BrokerSettings(url=SecretStr(rig.redis_url)),
        events=EventSettings(buckets=(rig.bucket,)),
        pool=pool,
    )
    with service.open_endpoint(settings) as endpoint:
        yield serve(endpoint, monkeypatch)


def send(app: Flask, version: ObjectVersion) -> int:
    """Deliver the event of the object, like Pub/Sub, and return the status of the response."""
    return deliver(app, event(version)).status_code


def event(version: ObjectVersion) -> Delivery:
    return push(version.name, version.generation, bucket=version.bucket, contentType="image/png")


def test_the_pool_wakes_for_images_and_sleeps_between_them(rig: Rig, cloud_run: FakeCloudRun, app: Flask) -> None:
    """Three rounds of 0 instances, image, 1 instance, caption, 0 instances, with exactly one call each way."""
    variables = {
        "DROPLINE_POOL__NAME": POOL,
        "DROPLINE_POOL__API": cloud_run.url,
        "DROPLINE_POOL__IDLE_S": str(IDLE_S),
    }
    with WorkerProcesses(rig, cloud_run, **variables) as workers:
        for number in range(3):
            versions = [rig.upload(f"{number}-{n}.png", png((number, n, 0))) for n in range(4)]
            for version in versions:
                # Deliver again, as Pub/Sub does: the answer is 503 while a worker scales to zero.
                eventually(lambda event=version: send(app, event) == 204)  # type: ignore[misc]
            rows = rig.wait_settled(row_ids(rig, versions))
            assert {row["status"] for row in rows} == {"captioned"}
            eventually(lambda wanted=number: cloud_run.history == [1, 0] * (wanted + 1))  # type: ignore[misc]
        eventually(lambda: not workers.started[-1].alive)
    assert len(workers.started) == 3
    assert cloud_run.history == [1, 0] * 3


def test_a_pool_is_woken_once_for_many_events(rig: Rig, cloud_run: FakeCloudRun, app: Flask, redis: Redis) -> None:
    """100 simultaneous events cause one call to Cloud Run, made before the first response."""
    versions = [ObjectVersion(rig.bucket, f"{n}.png", n) for n in range(1, 101)]
    assert set(deliver_all(app, [event(version) for version in versions])) == {204}
    assert cloud_run.history == [1]
    assert redis.get(MARK_KEY) == AWAKE
    assert redis.llen(CAPTION_QUEUE) == 100


@pytest.mark.parametrize("status", [403, 404, 429, 503])
def test_an_event_is_not_acknowledged_before_the_pool_is_awake(
    rig: Rig, cloud_run: FakeCloudRun, app: Flask, redis: Redis, status: int
) -> None:
    """A refused call means 503, with row and message; the redelivery scales up and inserts no second row."""
    version = ObjectVersion(rig.bucket, "a.png", 1)
    cloud_run.fail(status)
    assert send(app, version) == 503
    assert (redis.llen(CAPTION_QUEUE), cloud_run.history) == (1, [])
    assert rig.row(1)["status"] == "queued"
    assert send(app, version) == 204
    assert cloud_run.history == [1]
    with pytest.raises(NoResultFound):
        rig.row(2)


def test_an_event_waits_while_a_worker_puts_the_pool_to_sleep(
    rig: Rig, cloud_run: FakeCloudRun, app: Flask, redis: Redis
) -> None:
    """While a worker scales to zero, an event gets 503: a call to 1 could be overtaken by the call to 0."""
    redis.set(MARK_KEY, f"{SLEEPING}somebody", px=60_000)
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 503
    assert cloud_run.history == []
    redis.delete(MARK_KEY)
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert cloud_run.history == [1]


def test_a_cloud_run_that_takes_its_time_wakes_the_pool(rig: Rig, cloud_run: FakeCloudRun, app: Flask) -> None:
    """The first events after a pause are acknowledged although the API answers after 5 seconds, with one call."""
    cloud_run.before(partial(sleep, 5))
    versions = [ObjectVersion(rig.bucket, f"{n}.png", 1) for n in range(8)]
    assert set(deliver_all(app, [event(version) for version in versions])) == {204}
    assert cloud_run.history == [1]


@pytest.mark.usefixtures("short_wait")
def test_a_slow_cloud_run_does_not_hold_up_the_answer(rig: Rig, cloud_run: FakeCloudRun, app: Flask) -> None:
    """A slow call means 503 in time; the call continues, and the redelivery needs no second call."""
    answered = threading.Event()
    cloud_run.before(lambda: answered.wait(DEADLINE_S))
    began = monotonic()
    assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 503
    assert monotonic() - began < REQUEST_BUDGET_S + SHORT_WAIT_S + 5
    answered.set()
    eventually(lambda: send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204)
    assert cloud_run.history == [1]


@pytest.mark.usefixtures("short_wait")
def test_a_call_that_hangs_holds_up_nobody_who_finds_the_pool_awake(
    rig: Rig, cloud_run: FakeCloudRun, app: Flask, redis: Redis
) -> None:
    """An event that reads `awake` gets 204 while calls hang: reading the mark needs no thread for calls."""
    answered = threading.Event()
    cloud_run.before(lambda: answered.wait(DEADLINE_S))
    hanging = [event(ObjectVersion(rig.bucket, f"{n}.png", 1)) for n in range(8)]
    try:
        assert set(deliver_all(app, hanging)) == {503}
        redis.set(MARK_KEY, AWAKE)
        assert send(app, ObjectVersion(rig.bucket, "late.png", 1)) == 204
    finally:
        answered.set()


def test_an_event_that_needs_no_worker_wakes_nobody(rig: Rig, cloud_run: FakeCloudRun, app: Flask) -> None:
    """Filtered events, deletions and rows in a terminal state make no call."""
    for settled in (
        push("note.txt", bucket=rig.bucket, contentType="text/plain"),
        push("a.png", event_type="OBJECT_DELETE", bucket=rig.bucket),
        push("a.png", bucket=rig.bucket, contentType="image/png"),
        push("huge.png", bucket=rig.bucket, contentType="image/png", size="99000000000"),
    ):
        assert deliver(app, settled).status_code == 204
    assert cloud_run.history == []


def test_without_a_pool_nothing_is_asked_of_cloud_run(
    rig: Rig, cloud_run: FakeCloudRun, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the name of a worker pool, the function sets no mark and makes no call."""
    with function_of(rig, PoolSettings(api=cloud_run.url), monkeypatch) as app:
        assert send(app, ObjectVersion(rig.bucket, "a.png", 1)) == 204
    assert (cloud_run.history, redis.get(MARK_KEY)) == ([], None)


def test_a_worker_that_finds_forgotten_rows_recovers_them_before_it_sleeps(
    rig: Rig, cloud_run: FakeCloudRun, redis: Redis
) -> None:
    """A row whose message is lost while the worker is idle keeps the worker pool up, and is captioned."""
    worker = rig.worker(
        DROPLINE_POOL__NAME=POOL, DROPLINE_POOL__API=cloud_run.url, DROPLINE_POOL__IDLE_S=str(IDLE_S)
    )
    assert worker.wait_for_line("looked_at_queue", DEADLINE_S)
    row_id = rig.register(rig.upload("lost.png", png()))
    (row,) = rig.wait_settled([row_id])
    assert row["status"] == "captioned"
    eventually(lambda: cloud_run.history[:1] == [0])
    eventually(lambda: redis.get(MARK_KEY) is None)


def test_the_pool_sleeps_while_a_row_rests_and_is_woken_for_it(
    rig: Rig, cloud_run: FakeCloudRun, app: Flask
) -> None:
    """A row in a long back-off: 0 instances, a task for the time of the row, 1 instance, caption, 0 instances."""
    with fake_cloud_tasks.serve() as tasks:
        variables = {
            "DROPLINE_POOL__NAME": POOL,
            "DROPLINE_POOL__API": cloud_run.url,
            "DROPLINE_POOL__IDLE_S": str(IDLE_S),
            "DROPLINE_POOL__WAKE_QUEUE": QUEUE,
            "DROPLINE_POOL__WAKE_URL": "https://function.example/wake",
            "DROPLINE_POOL__WAKE_API": tasks.url,
        }
        resting = rig.register(rig.upload("resting.png", png()))
        set_not_before(rig, "1 hour")
        with WorkerProcesses(rig, cloud_run, **variables):
            wake(app)
            eventually(lambda: cloud_run.history == [1, 0])
            assert rig.row(resting)["status"] == "queued"
            assert tasks.times() == [pytest.approx(rig.row(resting)["not_before"], abs=timedelta(seconds=30))]
            # The hour is over, and Cloud Tasks calls.
            set_not_before(rig, "0")
            wake(app)
            rig.wait_settled([resting])
            eventually(lambda: cloud_run.history == [1, 0, 1, 0])
    assert len(tasks.tasks) == 1


def row_ids(rig: Rig, versions: list[ObjectVersion]) -> list[int]:
    """The ids of the rows; a delivery that is repeated leaves a gap between them."""
    names = [version.name for version in versions]
    with psycopg.connect(rig.database_url) as connection:
        found = connection.execute("SELECT id FROM captions WHERE object_name = ANY(%s)", (names,)).fetchall()
    assert len(found) == len(versions)
    return [row_id for (row_id,) in found]


def set_not_before(rig: Rig, interval: str) -> None:
    with psycopg.connect(rig.database_url) as connection:
        connection.execute("UPDATE captions SET not_before = now() + %s::interval", (interval,))


def wake(app: Flask) -> None:
    """Call like Cloud Tasks, until the answer is a success."""
    eventually(lambda: app.test_client().post("/wake").status_code == 204)


def test_without_a_pool_a_call_of_cloud_tasks_has_no_effect(
    rig: Rig, cloud_run: FakeCloudRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The call is answered, and Cloud Run is not called."""
    with function_of(rig, PoolSettings(api=cloud_run.url), monkeypatch) as app:
        assert app.test_client().post("/wake").status_code == 204
    assert cloud_run.history == []
