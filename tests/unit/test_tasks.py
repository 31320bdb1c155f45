"""The Celery task and the parent's side of it, over a scripted pipeline and a broker in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import SoftTimeLimitExceeded, Terminated, TimeLimitExceeded, WorkerLostError
from celery import Celery
from celery.app.trace import build_tracer
from celery.exceptions import Reject

from db.due_rows import Due
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
from dropline.errors import AccessDenied, BrokerUnavailable, DatabaseUnavailable
from tests.support.memory_broker import MemoryBroker
from worker.alarm import Alarm
from worker.breaker import EngineUse
from worker.gate import Gate
from worker.pipeline import Outcome
from worker.tasks import Resources, register_tasks

pytestmark = pytest.mark.filterwarnings("ignore:\\s*The 'queue' task attribute is deprecated")

#: The child asks the parent for a look at the queue.
FAILED = -1.0
CHILD_PID = 4711


@dataclass
class Child:
    """The task of a child, with a pipeline scripted by the test."""

    broker: MemoryBroker
    app: Celery
    others: Due = field(default_factory=Due)
    error: Exception | None = None
    run_error: Exception | None = None
    wake_error: Exception | None = None
    engine_uses: list[EngineUse] = field(default_factory=list)
    #: Hints given to the pipeline.
    hints: list[int] = field(default_factory=list)
    #: Hints of the messages sent at the end.
    woken: list[int] = field(default_factory=list)
    #: Acts of the parent on row, message and alarm, in order.
    acts: list[str] = field(default_factory=list)

    def pipeline(self) -> "Child":
        """Built on first use, which may fail."""
        if self.error:
            raise self.error
        return self

    def run(self, hint: int) -> Outcome:
        """The pipeline's entry."""
        self.hints.append(hint)
        if self.run_error:
            raise self.run_error
        return Outcome("captioned", self.others)

    def wake(self, row_id: int) -> None:
        """Send a message, which may fail."""
        if self.wake_error:
            raise self.wake_error
        self.woken.append(row_id)

    def row_ended(self) -> None:
        """The child has its share of the purges."""

    def release_lease(self, child: int) -> None:
        """The parent ends the lease of a dead child."""
        self.acts.append(f"release {child}")

    def taken(self, message_id: str) -> None:
        """The alarm hears that a child has the message."""
        self.acts.append(f"taken {message_id}")

    def ended(self, message_id: str, next_in_s: float | None) -> None:
        """The alarm hears of the end of the message."""
        self.acts.append(f"ended {message_id}: {next_in_s}")

    def failed(self, message_id: str) -> None:
        """The alarm hears that the message has failed."""
        self.acts.append(f"failed {message_id}")

    def report(self, use: EngineUse) -> None:
        """The gate hears what the engine did."""
        self.acts.append(f"report {use}")

    def call(self, *args: Any) -> Any:
        """Run the task's body as a child does for a message."""
        task = self.app.tasks[CAPTION_TASK]
        task.push_request(id="m1", args=args, kwargs={}, called_directly=False)
        try:
            return task.run(*args)
        finally:
            task.pop_request()


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch) -> Child:
    """The task of an app with a broker in memory."""
    broker = MemoryBroker(monkeypatch)
    child = Child(broker, broker.app())
    register_tasks(child.app, cast("Resources", child), cast("Alarm", child), cast("Gate", child))
    return child


@pytest.mark.parametrize("row_id", [0, -1, True, "7", 7.0, None, [7]], ids=repr)
def test_a_message_without_a_row_is_dropped(child: Child, row_id: object) -> None:
    """The pipeline is not called; the parent looks at the queue, since the message may have stood for a row."""
    assert child.call(row_id) == (FAILED, [])
    assert (child.hints, child.woken) == ([], [])


def test_the_smallest_row_id_is_one(child: Child) -> None:
    """Postgres's identity columns begin at 1."""
    assert child.call(1) == (None, [])
    assert child.hints == [1]


@pytest.mark.parametrize("next_in_s", [None, 0.25, 300.0])
@pytest.mark.parametrize("due", [(), (8,), (8, 9)])
def test_the_result_is_the_time_of_the_next_row(
    child: Child, due: tuple[int, ...], next_in_s: float | None
) -> None:
    """Where a row is due, the next message is sent before this one is acknowledged: one for one."""
    child.others = Due(due, next_in_s)
    assert child.call(7) == (next_in_s, [])
    assert (child.hints, child.woken) == ([7], list(due[:1]))


@pytest.mark.parametrize(
    "error", [RuntimeError("a bug"), AccessDenied("no credentials"), DatabaseUnavailable("away")]
)
def test_an_error_of_the_pipeline_is_no_error_of_the_task(child: Child, error: Exception) -> None:
    """The row has a lease or is due; the parent looks at the queue soon."""
    child.error = error
    assert child.call(7) == (FAILED, [])
    assert child.woken == []


@pytest.mark.parametrize("next_in_s", [None, 300.0])
def test_a_message_that_redis_refuses_is_sent_after_a_look(child: Child, next_in_s: float | None) -> None:
    """The parent looks soon, and sends a message for the due row."""
    child.others, child.wake_error = Due((8,), next_in_s), BrokerUnavailable("out of memory")
    assert child.call(7) == (FAILED, [])


def test_without_a_due_row_redis_is_left_alone(child: Child) -> None:
    """Redis may be away at the end of the last row."""
    child.others, child.wake_error = Due((), 300.0), BrokerUnavailable("away")
    assert child.call(7) == (300.0, [])


def test_celery_has_no_part_in_the_retries(child: Child) -> None:
    """A back-off is in the row; the time limits are those of one image."""
    task = child.app.tasks[CAPTION_TASK]
    assert (task.max_retries, task.soft_time_limit, task.time_limit) == (None, 120, 150)


class Parent:
    """The worker's parent, with a message in work at a child."""

    def __init__(self, child: Child) -> None:
        self.child = child
        child.app.send_task(CAPTION_TASK, [7], queue=CAPTION_QUEUE, task_id="m1")
        self.task = child.app.tasks[CAPTION_TASK]
        self.request = self.task.Request(
            child.broker.take(child.app),
            app=child.app,
            task=self.task,
            on_ack=lambda *_: child.acts.append("acknowledge"),
            on_reject=lambda _log, _errors, requeue: child.acts.append("requeue" if requeue else "reject"),
        )

    def accept(self) -> None:
        """A child accepts the message."""
        self.request.on_accepted(CHILD_PID, 0.0)
        self.child.acts.clear()

    def fail(self, error: BaseException) -> list[str]:
        """End the child's task with an error, or the child."""
        with pytest.raises(type(error)) as raised:
            raise error
        info = ExceptionInfo((raised.type, raised.value, raised.tb))
        self.request.on_failure(info, send_failed_event=False, return_ok=True)
        return self.child.acts


@pytest.mark.parametrize(
    ("error", "acts"),
    [
        (WorkerLostError("signal 9"), [f"release {CHILD_PID}", "requeue"]),
        (SystemExit(1), [f"release {CHILD_PID}", "requeue"]),
        (Terminated(15), [f"release {CHILD_PID}", "acknowledge"]),
        (RuntimeError("a bug"), ["acknowledge"]),
        (SoftTimeLimitExceeded(), ["acknowledge"]),
        # The lease is released next, by `on_timeout`.
        (TimeLimitExceeded(150), ["requeue"]),
        (Reject("full", requeue=True), ["requeue"]),
    ],
    ids=repr,
)
def test_the_row_of_a_dead_child_is_free_before_its_message_returns(
    child: Child, error: BaseException, acts: list[str]
) -> None:
    """The next child need not wait for the lease; an error of a living child leaves the lease alone.

    The parent looks at the queue soon in any case.
    """
    parent = Parent(child)
    parent.accept()
    assert parent.fail(error) == [*acts, "failed m1"]


def test_a_child_that_is_killed_for_its_time_frees_the_row(child: Child) -> None:
    """The hard limit kills the child; at the soft limit the child still lives and ends the attempt itself."""
    parent = Parent(child)
    parent.accept()
    parent.request.on_timeout(soft=True, timeout=120)
    assert child.acts == []
    parent.request.on_timeout(soft=False, timeout=150)
    assert child.acts == [f"release {CHILD_PID}", "requeue"]


def test_a_message_that_no_child_has_accepted_frees_nothing(child: Child) -> None:
    """No child can hold a row for the message."""
    assert Parent(child).fail(WorkerLostError("signal 9")) == ["requeue", "failed m1"]


def test_the_alarm_hears_of_a_message_that_a_child_takes(child: Child) -> None:
    """From now on the child may hold a lease."""
    Parent(child).request.on_accepted(CHILD_PID, 0.0)
    assert child.acts == ["taken m1"]


@pytest.mark.parametrize("next_in_s", [None, 0.0, 31.25, 1e-07, 604800.0])
def test_the_alarm_gets_the_result_as_the_child_writes_it(child: Child, next_in_s: float | None) -> None:
    """The result crosses Celery's own tracer, and the message is acknowledged first."""
    parent = Parent(child)
    parent.accept()
    child.others = Due((), next_in_s)
    _trace(parent)
    assert child.acts == ["acknowledge", f"ended m1: {next_in_s}"]


def test_the_alarm_hears_of_a_failure(child: Child) -> None:
    """The parent looks after a pause that grows."""
    parent = Parent(child)
    parent.accept()
    child.run_error = DatabaseUnavailable("read-only")
    _trace(parent)
    assert child.acts == ["acknowledge", "failed m1"]


@pytest.mark.parametrize("lost", [True, False])
def test_the_gate_hears_what_the_engine_did(child: Child, lost: bool) -> None:
    """Through Celery's own tracer, after the message is acknowledged."""
    parent = Parent(child)
    parent.accept()
    child.others, child.engine_uses = Due((), 3.5), [EngineUse(2, 7, lost, 5), EngineUse(2, 8, lost)]
    _trace(parent)
    assert child.acts == ["acknowledge", "ended m1: 3.5", *[f"report {use}" for use in child.engine_uses]]


def test_the_gate_hears_of_a_dead_engine_also_while_postgres_is_away(child: Child) -> None:
    """The row could not be queued again, and its lease runs out."""
    child.engine_uses, child.run_error = [EngineUse(2, 7, lost=True)], DatabaseUnavailable("away")
    assert child.call(7) == (FAILED, [(2, 7, True, None)])


def _trace(parent: Parent) -> None:
    """Run the task as a child of the process pool does, and give the result to the parent."""
    tracer: Callable[..., Any] = build_tracer(CAPTION_TASK, parent.task, app=parent.child.app)
    request = {"id": "m1", "is_eager": False, "called_directly": False, "delivery_info": {}}
    traced = tracer("m1", [7], {}, request)
    assert traced.info is None
    parent.request.on_success((0, traced.retstr, 0.0))
