"""The two Celery tasks, over a scripted pipeline and a broker in memory."""

from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded, Terminated, WorkerLostError
from celery import Celery
from celery.exceptions import Reject, Retry
from redis.exceptions import ConnectionError as RedisConnectionError

from dropline.contract import CAPTION_QUEUE, CAPTION_TASK, RECOVER_TASK, RECOVERY_QUEUE
from dropline.errors import AccessDenied, DatabaseUnavailable
from tests.support.memory_broker import MemoryBroker
from worker.pipeline import Acknowledge, Delivery, Redeliver
from worker.tasks import Resources, register_tasks

pytestmark = pytest.mark.filterwarnings("ignore:\\s*The 'queue' task attribute is deprecated")

#: Longer than any test, shorter than any difference between two pauses.
SECOND = timedelta(seconds=1)


@dataclass
class Child:
    """The tasks of a child, with a pipeline and a recovery scripted by the test."""

    broker: MemoryBroker
    app: Celery
    result: Acknowledge | Redeliver = field(default_factory=lambda: Acknowledge("captioned"))
    error: Exception | None = None
    #: Row ids and deliveries given to the pipeline.
    runs: list[tuple[int, Delivery]] = field(default_factory=list)
    #: Free the lease of a row; called in the parent.
    on_release: Callable[[int], None] = lambda _: None
    #: Runs a recovery with the given seconds of rest.
    recover: Callable[[float], object] = lambda _: "recovered"

    def pipeline(self) -> "Child":
        """Built on first use, which may fail."""
        if self.error:
            raise self.error
        return self

    def recovery(self) -> "ScriptedRecovery":
        """The test's recovery."""
        return ScriptedRecovery(self.recover)

    def release_lease(self, row_id: int) -> None:
        """Free a lease, scripted by the test."""
        self.on_release(row_id)

    def run(self, row_id: int, delivery: Delivery) -> Acknowledge | Redeliver:
        """The pipeline's entry."""
        self.runs.append((row_id, delivery))
        return self.result

    def call(self, name: str, args: Sequence[Any], retries: int = 0, delivery_info: object = None) -> Any:
        """Run a task's body as a child does for a message."""
        task = self.app.tasks[name]
        context = {"id": "m1", "args": args, "kwargs": {}, "retries": retries, "called_directly": False}
        task.push_request(**context, delivery_info=delivery_info)
        try:
            return task.run(*args)
        finally:
            task.pop_request()


@dataclass
class ScriptedRecovery:
    """A recovery scripted by the test."""

    run: Callable[[float], object]


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    """Tasks of an app with a broker in memory."""
    broker = MemoryBroker(monkeypatch)
    child = Child(broker, broker.app())
    register_tasks(child.app, cast("Resources", child))
    return child


@contextmanager
def sent_again(child: Child, queue: str, delay_s: float, retries: int) -> Any:
    """The body sends the message again, with the delay and the number of retries."""
    before = datetime.now(UTC)
    with pytest.raises(Retry):
        yield
    (message,) = child.broker.sent(queue)
    due = datetime.fromisoformat(message["eta"])
    assert before <= due - timedelta(seconds=delay_s) <= datetime.now(UTC) + SECOND / 2
    assert message["retries"] == retries


@pytest.mark.parametrize(
    ("retries", "delivery_info", "expected"),
    [
        (0, None, Delivery(repeated=False, retries=0)),
        (0, {}, Delivery(repeated=False, retries=0)),
        (0, {"redelivered": None}, Delivery(repeated=False, retries=0)),
        (0, {"redelivered": False}, Delivery(repeated=False, retries=0)),
        (0, {"redelivered": True}, Delivery(repeated=True, retries=0)),
        (1, {"redelivered": False}, Delivery(repeated=True, retries=1)),
        (7, None, Delivery(repeated=True, retries=7)),
        (2, {"redelivered": True}, Delivery(repeated=True, retries=2)),
    ],
)
def test_a_message_that_came_before_is_a_repeated_delivery(
    child: Child, retries: int, delivery_info: object, expected: Delivery
) -> None:
    """Redis returned the message of a dead worker, or a worker sent the message again."""
    assert child.call(CAPTION_TASK, [7], retries, delivery_info) == "captioned"
    assert child.runs == [(7, expected)]
    assert child.broker.sent(CAPTION_QUEUE) == []


@pytest.mark.parametrize("row_id", [0, -1, True, "7", 7.0, None, [7]], ids=repr)
def test_a_message_without_a_row_is_dropped(child: Child, row_id: object) -> None:
    """The pipeline is not called."""
    assert child.call(CAPTION_TASK, [row_id]) == "unusable"
    assert child.runs == []


def test_the_smallest_row_id_is_one(child: Child) -> None:
    """Postgres's identity columns begin at 1."""
    assert child.call(CAPTION_TASK, [1]) == "captioned"


@pytest.mark.parametrize(("retries", "delay_s"), [(0, 2.5), (3, 40.0)])
def test_a_message_that_is_needed_again_is_sent_again(child: Child, retries: int, delay_s: float) -> None:
    """The message has the pipeline's delay, and the next number of retries."""
    child.result = Redeliver(delay_s, "storage_unavailable")
    with sent_again(child, CAPTION_QUEUE, delay_s, retries + 1):
        child.call(CAPTION_TASK, [7], retries)
    (message,) = child.broker.sent(CAPTION_QUEUE)
    assert (message["task"], message["args"]) == (CAPTION_TASK, [7])


@pytest.mark.parametrize(("retries", "pause_s"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 64), (7, 64), (5000, 64)])
@pytest.mark.parametrize("error", [RuntimeError("a bug"), AccessDenied("no credentials")])
def test_an_unexpected_error_keeps_the_message(
    child: Child, error: Exception, retries: int, pause_s: float
) -> None:
    """The pipeline cannot be built, or has a bug: the message is sent again, with longer and longer pauses."""
    child.error = error
    with sent_again(child, CAPTION_QUEUE, pause_s, retries + 1):
        child.call(CAPTION_TASK, [7], retries)


@pytest.mark.parametrize("name", [CAPTION_TASK, RECOVER_TASK])
def test_a_copy_that_redis_refuses_returns_the_message_itself(child: Child, name: str) -> None:
    """The message is rejected and requeued: an acknowledged message without a copy would be lost."""
    child.result, child.recover = Redeliver(1.0, "away"), _raise_unavailable
    child.broker.fail(RedisConnectionError("out of memory"))
    with pytest.raises(Reject) as caught:
        child.call(name, [7])
    assert caught.value.requeue is True


def _raise_unavailable(_: float) -> None:
    raise DatabaseUnavailable("away")


@pytest.mark.parametrize(("args", "resting_s"), [([], 0.0), ([480.0], 480.0)])
def test_a_recovery_gets_the_seconds_of_rest(child: Child, args: list[float], resting_s: float) -> None:
    """The result of the recovery is the result of the task."""
    seen: list[float] = []

    def recover(resting_s: float) -> str:
        seen.append(resting_s)
        return "3 rows"

    child.recover = recover
    assert child.call(RECOVER_TASK, args) == "3 rows"
    assert seen == [resting_s]


@pytest.mark.parametrize(("retries", "pause_s"), [(0, 1), (3, 8), (9, 64)])
def test_a_recovery_that_fails_comes_again(child: Child, retries: int, pause_s: float) -> None:
    """Rows wait for a recovery, so the task is tried until success."""
    child.recover = _raise_unavailable
    with sent_again(child, RECOVERY_QUEUE, pause_s, retries + 1):
        child.call(RECOVER_TASK, [480.0], retries)
    (message,) = child.broker.sent(RECOVERY_QUEUE)
    assert (message["task"], message["args"]) == (RECOVER_TASK, [480.0])


def test_a_recovery_may_take_hours(child: Child) -> None:
    """A million rows are enqueued by a single task; the time limits of an image would stop the task."""
    task = child.app.tasks[RECOVER_TASK]
    assert 3600 < task.soft_time_limit < task.time_limit
    assert child.app.tasks[CAPTION_TASK].soft_time_limit == 120


@pytest.mark.parametrize("name", [CAPTION_TASK, RECOVER_TASK])
def test_neither_task_has_a_last_retry(child: Child, name: str) -> None:
    """Rows and pipeline count; Celery's own limit would drop the message."""
    assert child.app.tasks[name].max_retries is None


class Parent:
    """The worker's parent, with a message in work at a child."""

    def __init__(self, child: Child, args: list[object]) -> None:
        #: Acts on the row and on the message, in order.
        self.acts: list[str] = []
        child.on_release = lambda row_id: self.acts.append(f"release {row_id}")
        child.app.send_task(CAPTION_TASK, args, queue=CAPTION_QUEUE)
        task = child.app.tasks[CAPTION_TASK]
        self.request = task.Request(
            child.broker.take(child.app),
            app=child.app,
            task=task,
            on_ack=lambda *_: self.acts.append("acknowledge"),
            on_reject=lambda _log, _errors, requeue: self.acts.append("requeue" if requeue else "reject"),
        )

    def fail(self, error: BaseException) -> list[str]:
        """End the child's task with an error, or the child."""
        with pytest.raises(type(error)) as raised:
            raise error
        info = ExceptionInfo((raised.type, raised.value, raised.tb))
        self.request.on_failure(info, send_failed_event=False, return_ok=True)
        return self.acts


@pytest.mark.parametrize(
    ("error", "acts"),
    [
        (WorkerLostError("signal 9"), ["release 7", "requeue"]),
        (SystemExit(1), ["release 7", "requeue"]),
        (Terminated(15), ["release 7", "acknowledge"]),
        (RuntimeError("a bug"), ["acknowledge"]),
        (SoftTimeLimitExceeded(), ["acknowledge"]),
        (Reject("redis is full", requeue=True), ["requeue"]),
        (Retry("later"), ["acknowledge"]),
    ],
    ids=repr,
)
def test_the_row_of_a_dead_child_is_free_before_its_message_returns(
    child: Child, error: BaseException, acts: list[str]
) -> None:
    """The next delivery need not wait for the lease; an error of a living child leaves the lease alone."""
    assert Parent(child, [7]).fail(error) == acts


def test_a_child_that_is_killed_for_its_time_frees_the_row(child: Child) -> None:
    """The hard limit kills the child; at the soft limit the child still lives and ends the attempt itself."""
    parent = Parent(child, [7])
    parent.request.on_timeout(soft=True, timeout=120)
    assert parent.acts == []
    parent.request.on_timeout(soft=False, timeout=150)
    assert parent.acts == ["release 7", "requeue"]


@pytest.mark.parametrize("args", [[], ["7"], [None], [True]], ids=repr)
def test_a_dead_child_without_a_row_frees_nothing(child: Child, args: list[object]) -> None:
    """The message returns to the queue."""
    assert Parent(child, args).fail(WorkerLostError("signal 9")) == ["requeue"]
