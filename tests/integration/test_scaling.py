"""Scale to zero with a real Redis, and the Admin API over HTTP."""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from redis import Redis

from dropline.broker.configuration import make_producer
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
from dropline.errors import BrokerUnavailable, SettingsError
from dropline.scaling.activation import Activator
from dropline.scaling.deactivation import Deactivator
from dropline.scaling.errors import PoolChanging, ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.mark import MARK_KEY, PoolMark
from dropline.scaling.protocol import (
    AWAKE,
    SLEEPING,
    Admission,
    BeginScaleToZero,
    ReplaceMark,
    ScaleToZeroOutcome,
    ScalingPolicy,
)
from dropline.scaling.wake_queue import WakeQueue, make_wake_queue
from dropline.scaling.worker_pool import TRIES, CloudRunWorkerPool, make_worker_pool
from dropline.settings import BrokerSettings, PoolSettings
from local_emulators.ports import free_ports
from tests.support import fake_cloud_run, fake_cloud_tasks
from tests.support.fake_cloud_run import POOL, FakeCloudRun
from tests.support.fake_cloud_tasks import QUEUE, FakeCloudTasks
from tests.support.redis_store import RedisStore
from tests.support.scaling_place import Place, eventually
from tests.support.scaling_schedule import live
from tests.support.scaling_world import Faults, World

INTERLEAVINGS = 1000
POLICY = ScalingPolicy()
DEADLINE_S = 120


@pytest.fixture
def redis(redis_url: str) -> Iterator["Redis"]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def mark(redis_url: str) -> Iterator[PoolMark]:
    with contextlib.closing(PoolMark.connect(redis_url, timeout_s=30)) as found:
        yield found


@pytest.fixture
def cloud_run() -> Iterator[FakeCloudRun]:
    with fake_cloud_run.serve() as found:
        yield found


@pytest.fixture
def pool(cloud_run: FakeCloudRun) -> Iterator[CloudRunWorkerPool]:
    with contextlib.closing(make_worker_pool(POOL, cloud_run.url)) as found:
        yield found


@pytest.fixture
def activator(mark: PoolMark, pool: CloudRunWorkerPool) -> Activator:
    return Activator(mark, pool, POLICY)


@pytest.fixture
def deactivator(mark: PoolMark, pool: CloudRunWorkerPool) -> Deactivator:
    return Deactivator(mark, pool, POLICY, lambda: None)


@pytest.mark.parametrize("faults", [Faults(), Faults(flush=True)])
def test_any_interleaving_in_a_real_redis(redis: "Redis", mark: PoolMark, faults: Faults) -> None:
    """1,000 interleavings: the scripts answer as the model does, and no image waits at 0 instances."""

    @settings(max_examples=INTERLEAVINGS // 2, deadline=None, print_blob=True)
    @given(st.integers(0, 2**63), st.integers(20, 150))
    def check(seed: int, length: int) -> None:
        live(World(RedisStore(redis, mark), faults), seed, length)

    check()


def test_a_message_of_celery_keeps_the_pool_awake(redis_url: str, mark: PoolMark) -> None:
    """The name of the queue is the name of kombu's list."""
    assert mark.begin(BeginScaleToZero(SLEEPING + "1", 60)) is Admission.GRANTED
    assert mark.replace(ReplaceMark(SLEEPING + "1", None))
    with make_producer(BrokerSettings(url=SecretStr(redis_url))) as app:
        app.send_task(CAPTION_TASK, queue=CAPTION_QUEUE)
    assert mark.begin(BeginScaleToZero(SLEEPING + "2", 60)) is Admission.QUEUED


def test_marks_run_out_only_where_they_must(redis: "Redis", mark: PoolMark) -> None:
    """Sleeping marks and `awake` expire; waking marks do not."""
    mark.replace(ReplaceMark(None, "waking:1"))
    assert redis.pttl(MARK_KEY) == -1
    mark.replace(ReplaceMark("waking:1", AWAKE, 600))
    assert 500_000 < int(str(redis.pttl(MARK_KEY))) <= 600_000
    mark.begin(BeginScaleToZero(SLEEPING + "1", 60))
    assert 50_000 < int(str(redis.pttl(MARK_KEY))) <= 60_000


def test_a_redis_that_is_away_is_an_error_of_ours() -> None:
    """The error is transient, so the event is redelivered."""
    with contextlib.closing(PoolMark.connect(f"redis://127.0.0.1:{free_ports(1)[0]}/0", 1)) as mark:
        for act in (
            mark.read,
            lambda: mark.replace(ReplaceMark(None, AWAKE)),
            lambda: mark.begin(BeginScaleToZero("sleeping:1", 1)),
        ):
            with pytest.raises(BrokerUnavailable, match="try again"):
                act()


def test_asleep_awake_asleep(cloud_run: FakeCloudRun, activator: Activator, deactivator: Deactivator) -> None:
    """The first event calls 1, further events only read the mark, and an idle period ends with one call to 0."""
    for _ in range(3):
        activator.ensure_awake()
    assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP
    activator.ensure_awake()
    assert cloud_run.history == [1, 0, 1]


def test_only_the_number_of_instances_is_sent(cloud_run: FakeCloudRun, pool: CloudRunWorkerPool) -> None:
    """The emulator refuses a PATCH without the update mask, which would replace the whole worker pool."""
    pool.scale(2)
    pool.scale(0)
    assert cloud_run.history == [2, 0]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, ScalingDenied),
        (403, ScalingDenied),
        (404, ScalingDenied),
        (408, ScalingUnknown),
        (409, ScalingRefused),
        (429, ScalingRefused),
        (500, ScalingUnknown),
        (503, ScalingUnknown),
        (302, ScalingUnknown),
    ],
)
def test_each_answer_says_what_may_be_believed(
    cloud_run: FakeCloudRun, pool: CloudRunWorkerPool, status: int, kind: type[Exception]
) -> None:
    """A refusal leaves the number unchanged; a failure may have changed the number."""
    cloud_run.fail(status, times=TRIES)
    with pytest.raises(kind, match=str(status)):
        pool.scale(1)
    assert cloud_run.history == []


@pytest.mark.parametrize("status", [409, 412])
def test_a_pool_that_has_changed_is_read_and_sent_again(
    cloud_run: FakeCloudRun, pool: CloudRunWorkerPool, status: int
) -> None:
    """A refused etag costs another GET and PATCH; after three of them the call is refused."""
    cloud_run.fail(status, times=TRIES - 1)
    pool.scale(1)
    assert (cloud_run.history, cloud_run.reads) == ([1], TRIES)
    cloud_run.fail(status, times=TRIES + 1)
    with pytest.raises(ScalingRefused, match=str(status)):
        pool.scale(0)
    assert (cloud_run.history, cloud_run.reads) == ([1], 2 * TRIES)


def test_a_change_between_get_and_patch_is_seen(cloud_run: FakeCloudRun, pool: CloudRunWorkerPool) -> None:
    """The emulator refuses the etag of the state before, and the second PATCH has the new one."""
    cloud_run.before(cloud_run.change)
    pool.scale(1)
    assert (cloud_run.history, cloud_run.reads) == ([1], 2)


def test_the_whole_pool_is_sent(cloud_run: FakeCloudRun) -> None:
    """The emulator refuses a body with the number alone, which would reset the service account, or an old etag."""
    url, mask = f"{cloud_run.url}/v2/{POOL}", {"updateMask": "scaling.manualInstanceCount"}
    sparse = {"scaling": {"manualInstanceCount": 1}}
    with requests.Session() as session:
        session.trust_env = False
        refused = session.patch(url, params=mask, json=sparse)
        assert (refused.status_code, "actAs" in refused.text) == (403, True)
        whole = session.get(url).json() | sparse
        assert session.patch(url, params=mask, json=whole).status_code == 200
        assert session.patch(url, params=mask, json=whole).status_code == 409
    assert cloud_run.history == [1]


def test_a_pool_that_cannot_be_read_is_unchanged(redis_url: str) -> None:
    """Without an answer to the GET no PATCH is sent, so the number of instances is as before."""
    api = f"http://127.0.0.1:{free_ports(1)[0]}"
    with contextlib.closing(make_worker_pool(POOL, api)) as pool, pytest.raises(ScalingRefused, match="no answer"):
        pool.scale(0)


def test_another_pool_is_a_mistake_of_the_deployment(cloud_run: FakeCloudRun) -> None:
    """A retry would not help; the message names the settings and permissions to check."""
    with (
        contextlib.closing(make_worker_pool(POOL + "x", cloud_run.url)) as pool,
        pytest.raises(ScalingDenied, match=r"run\.workerpools\.update"),
    ):
        pool.scale(1)


@pytest.mark.parametrize("fault", [FakeCloudRun.lose_response, FakeCloudRun.fail_operation])
def test_no_answer_and_a_failed_operation_are_unknown(
    cloud_run: FakeCloudRun, pool: CloudRunWorkerPool, fault: Callable[[FakeCloudRun], None]
) -> None:
    """Both are ScalingUnknown, and no request is sent twice."""
    fault(cloud_run)
    with pytest.raises(ScalingUnknown):
        pool.scale(1)
    assert len(cloud_run.history) <= 1


def test_a_wake_without_an_answer_is_repeated_by_the_redelivery(
    cloud_run: FakeCloudRun, activator: Activator
) -> None:
    """The first delivery fails and leaves a waking mark, under which the second delivery calls again."""
    cloud_run.lose_response()
    with pytest.raises(ScalingUnknown):
        activator.ensure_awake()
    activator.ensure_awake()
    activator.ensure_awake()
    assert cloud_run.history == [1, 1]


def test_an_event_during_the_call_to_0_comes_again(
    cloud_run: FakeCloudRun, activator: Activator, deactivator: Deactivator
) -> None:
    """An event during the call to 0 is not acknowledged, and the redelivery scales up."""
    activator.ensure_awake()

    def drop() -> None:
        with pytest.raises(PoolChanging):
            activator.ensure_awake()

    cloud_run.around(drop)
    cloud_run.history.clear()
    assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.ASLEEP
    activator.ensure_awake()
    assert cloud_run.history == [0, 1]


def test_a_flush_during_the_call_to_0_is_made_good(
    cloud_run: FakeCloudRun, redis: "Redis", activator: Activator, deactivator: Deactivator
) -> None:
    """A worker whose mark is lost in a flush scales up again, since an event may have read `awake`."""
    activator.ensure_awake()

    def flush() -> None:
        redis.flushall()
        activator.ensure_awake()

    cloud_run.before(flush)
    assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.WOKEN_AGAIN
    assert cloud_run.instances == 1


def test_a_call_to_0_without_an_answer_leaves_its_mark(
    cloud_run: FakeCloudRun, redis: "Redis", activator: Activator, deactivator: Deactivator
) -> None:
    """Events are refused until the mark of the unanswered call expires; the next event scales up."""
    activator.ensure_awake()
    cloud_run.lose_response()
    assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.UNKNOWN
    with pytest.raises(PoolChanging):
        activator.ensure_awake()
    assert deactivator.try_scale_to_zero() is ScaleToZeroOutcome.TAKEN
    redis.pexpire(MARK_KEY, 1)
    eventually(lambda: not redis.exists(MARK_KEY))
    activator.ensure_awake()
    assert cloud_run.instances == 1


def test_what_is_believed_of_an_awake_pool_runs_out(
    cloud_run: FakeCloudRun, redis: "Redis", activator: Activator
) -> None:
    """After an operator sets 0 by hand, the first event after `awake_s` scales up."""
    activator.ensure_awake()
    cloud_run.set(0)
    activator.ensure_awake()
    assert cloud_run.instances == 0
    redis.pexpire(MARK_KEY, 1)
    eventually(lambda: not redis.exists(MARK_KEY))
    activator.ensure_awake()
    assert cloud_run.instances == 1


def test_many_requests_of_one_process_share_a_call(cloud_run: FakeCloudRun, activator: Activator) -> None:
    """200 requests from 40 threads at 0 instances cause a single call to Cloud Run."""
    with ThreadPoolExecutor(40) as threads:
        list(threads.map(lambda _: activator.ensure_awake(), range(200)))
    assert cloud_run.history == [1]


def test_functions_and_workers_at_once(redis_url: str, redis: "Redis", cloud_run: FakeCloudRun) -> None:
    """400 events in 8 threads, and a worker that scales to zero whenever idle: all rows are captioned."""
    place = Place(redis_url, redis, cloud_run)
    with ThreadPoolExecutor(8) as functions:
        delivered = functions.map(place.deliver_until_acknowledged, range(400))
        assert sum(1 for _ in delivered) == 400
    eventually(lambda: cloud_run.instances == 0 and not place.unfinished())
    place.close()
    assert cloud_run.history.count(0) >= 1


WAKING = PoolSettings(
    wake_queue=QUEUE,
    wake_url="https://function.example/wake",
    wake_service_account="wake@drops.iam.gserviceaccount.com",
    wake_audience="https://function.example",
)


def wakes_of(tasks: FakeCloudTasks, **changes: str) -> WakeQueue:
    found = make_wake_queue(WAKING.model_copy(update={"wake_api": tasks.url, **changes}))
    assert found is not None
    return found


def test_a_task_calls_the_function_at_its_time() -> None:
    """The task has the address, the token's account and audience, and a time, at most 29 days ahead."""
    with fake_cloud_tasks.serve() as tasks:
        before = datetime.now(UTC)
        wakes_of(tasks).arrange(3600)
        wakes_of(tasks, wake_service_account="").arrange(1e7)
        after = datetime.now(UTC)
    first, last = tasks.times()
    assert before <= first - timedelta(hours=1) <= after
    assert before <= last - timedelta(days=29) <= after
    assert [task["httpRequest"] for task in tasks.tasks] == [
        {
            "url": "https://function.example/wake",
            "httpMethod": "POST",
            "oidcToken": {
                "serviceAccountEmail": "wake@drops.iam.gserviceaccount.com",
                "audience": "https://function.example",
            },
        },
        {"url": "https://function.example/wake", "httpMethod": "POST"},
    ]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ScalingRefused),
        (429, ScalingRefused),
        (403, ScalingDenied),
        (404, ScalingDenied),
        (503, ScalingUnknown),
    ],
)
def test_a_task_that_is_not_taken(status: int, kind: type[Exception]) -> None:
    """The error has the reason, and the worker pool stays up."""
    with fake_cloud_tasks.serve() as tasks:
        tasks.failures.append(status)
        with pytest.raises(kind, match=r"told to fail.*the worker pool stays up"):
            wakes_of(tasks).arrange(60)


def test_cloud_tasks_is_away() -> None:
    """Without an answer, the error is transient."""
    with pytest.raises(ScalingUnknown, match="no answer from Cloud Tasks"):
        wakes_of(FakeCloudTasks(f"http://127.0.0.1:{free_ports(1)[0]}")).arrange(60)


def test_a_queue_without_an_address_is_refused() -> None:
    """The message names the missing setting; without a queue there is no client."""
    with pytest.raises(SettingsError, match="DROPLINE_POOL__WAKE_URL is not set"):
        make_wake_queue(PoolSettings(wake_queue=QUEUE, wake_api="http://127.0.0.1:1"))
    assert make_wake_queue(PoolSettings()) is None
