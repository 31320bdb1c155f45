"""Celery's task: a message wakes a child, which works on the most urgent row, and sends the next message."""

import ast
from collections.abc import Callable
from typing import Any, Protocol

import structlog
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated, WorkerLostError
from celery import Celery, Task
from celery.worker.request import Request

from db.due_rows import Due
from dropline.contract import CAPTION_QUEUE, CAPTION_TASK
from dropline.errors import AccessDenied, BrokerUnavailable, DatabaseUnavailable
from dropline.log import get_logger
from worker.alarm import Alarm
from worker.breaker import EngineUse
from worker.gate import Gate
from worker.pipeline import Pipeline

log = get_logger(__name__)

#: The next row of a message that has failed: the parent looks which row is due.
_FAILED = -1.0
#: The result of the task: seconds until the next row is due, `_FAILED` or None; and each `EngineUse` as a tuple.
Result = tuple[float | None, list[tuple[int, int, bool, int | None]]]


class Resources(Protocol):
    """Used by the tasks of one process; see `worker.app.ProcessResources`."""

    def pipeline(self) -> Pipeline:
        """The child's pipeline; built on first use."""

    def wake(self, row_id: int) -> None:
        """Send a message with a row as the hint."""

    def row_ended(self) -> None:
        """A child has ended a row; called after the next message was sent."""

    def release_lease(self, child: int) -> None:
        """Release the lease of a dead child, by its process id; called in the parent."""


def register_tasks(app: Celery, resources: Resources, alarm: Alarm, gate: Gate) -> None:
    """Add the task to the app; `alarm` and `gate` are the parent's."""

    def caption(self: Task, row_id: Any) -> Result:
        """The report to the parent, for its alarm and its gate."""
        with structlog.contextvars.bound_contextvars(task_id=self.request.id, hint=row_id):
            if type(row_id) is not int or row_id < 1:
                log.error("unusable_message", args=repr(self.request.args)[:200])
                return _FAILED, []
            return _run(resources, row_id)

    # Not shared: Celery registers a shared task with every app of the process.
    app.task(
        name=CAPTION_TASK,
        bind=True,
        shared=False,
        max_retries=None,
        queue=CAPTION_QUEUE,
        Request=type("BoundRequest", (WatchedRequest,), {"resources": resources, "alarm": alarm, "gate": gate}),
    )(caption)


def _run(resources: Resources, hint: int) -> Result:
    try:
        pipeline = resources.pipeline()
    except Exception as error:  # noqa: BLE001 - no error may end the task
        _log_failure(error)
        return _FAILED, []
    next_in_s = _next_in_s(resources, pipeline, hint)
    return next_in_s, [(use.engine, use.row_id, use.lost, use.image) for use in pipeline.engine_uses]


def _next_in_s(resources: Resources, pipeline: Pipeline, hint: int) -> float | None:
    try:
        outcome = pipeline.run(hint)
    except Exception as error:  # noqa: BLE001 - no error may end the task
        _log_failure(error)
        return _FAILED
    log.info("finished", outcome=outcome.words)
    next_in_s = _wake_for(resources, outcome.others)
    resources.row_ended()
    return next_in_s


def _log_failure(error: Exception) -> None:
    """The row of a claim keeps its lease, and is due at its end."""
    if isinstance(error, DatabaseUnavailable | AccessDenied):
        log.warning("row_waits_for_postgres", code=error.code, error=str(error))
    else:
        log.error("attempt_broken", exc_info=error)


def _wake_for(resources: Resources, others: Due) -> float | None:
    """Send the next message before this one is acknowledged, so that the queue is not empty while a row is due."""
    try:
        for row_id in others.row_ids[:1]:
            resources.wake(row_id)
    except BrokerUnavailable as error:
        log.warning("message_not_sent", error=str(error))
        return _FAILED
    return others.next_in_s


class WatchedRequest(Request):
    """Sets the alarm, and releases the lease when the child dies, before the message returns to the queue."""

    resources: Resources
    alarm: Alarm
    gate: Gate

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Celery overrides `on_success` in a subclass that it makes of this class.
        self._celery_on_success: Callable[..., None] = super().__getattribute__("on_success")
        self.on_success = self._on_success

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        super().on_accepted(pid, time_accepted)
        self.alarm.taken(self.id)

    def _on_success(self, failed__retval__runtime: Any, **options: Any) -> None:
        self._celery_on_success(failed__retval__runtime, **options)
        failed, result, _ = failed__retval__runtime
        next_in_s, uses = (_FAILED, []) if failed else _parse(result)
        if next_in_s == _FAILED:
            self.alarm.failed(self.id)
        else:
            self.alarm.ended(self.id, next_in_s)
        for use in uses:
            self.gate.report(use)

    def on_timeout(self, soft: bool, timeout: float) -> None:
        if not soft:
            self._release_lease()
        super().on_timeout(soft, timeout)

    def on_failure(self, exc_info: Any, *args: Any, **options: Any) -> None:
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, WorkerLostError | Terminated | SystemExit):
            self._release_lease()
        super().on_failure(exc_info, *args, **options)
        self.alarm.failed(self.id)

    def _release_lease(self) -> None:
        if self.worker_pid is not None:
            self.resources.release_lease(self.worker_pid)


def _parse(result: str) -> tuple[float | None, list[EngineUse]]:
    """The result of the task, which reaches the parent as `repr` writes it."""
    next_in_s, uses = ast.literal_eval(result)
    return next_in_s, [EngineUse(*use) for use in uses]
