"""Celery's two tasks: each applies the decision of the pipeline or of the recovery to its message."""

from typing import Any, NoReturn, Protocol

import structlog
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated, WorkerLostError
from celery import Celery, Task
from celery.exceptions import Reject
from celery.worker.request import Request

from dropline.contract import CAPTION_QUEUE, CAPTION_TASK, RECOVER_TASK, RECOVERY_QUEUE
from dropline.log import get_logger
from worker.pipeline import Acknowledge, Delivery, Pipeline, Redeliver
from worker.recovery import Recovery

log = get_logger(__name__)

#: A recovery of a million rows takes minutes, and the time limits of an image would cut it short.
_RECOVERY_LIMIT_S = 6 * 3600
#: Longest pause before a message is delivered again after an unexpected error.
_LONGEST_PAUSE_S = 64


class Resources(Protocol):
    """Used by the tasks of one process; see `worker.app.ProcessResources`."""

    def pipeline(self) -> Pipeline:
        """The child's pipeline; built on first use."""

    def recovery(self) -> Recovery:
        """The child's recovery; built on first use."""

    def release_lease(self, row_id: int) -> None:
        """Release the lease of a dead child on a row; called in the parent."""


def register_tasks(app: Celery, resources: Resources) -> None:
    """Add the two tasks to the app."""

    def caption(self: Task, row_id: Any) -> str:
        with structlog.contextvars.bound_contextvars(task_id=self.request.id, row_id=row_id):
            if type(row_id) is not int or row_id < 1:
                log.error("unusable_message", args=repr(self.request.args)[:200])
                return "unusable"
            match _run_pipeline(resources, row_id, _delivery(self.request)):
                case Redeliver(delay_s, reason):
                    log.info("later", delay_s=round(delay_s, 3), reason=reason)
                    _redeliver(self, delay_s)
                case Acknowledge(result):
                    log.info("finished", outcome=result)
                    return result

    def recover(self: Task, resting_s: float = 0.0) -> str:
        try:
            return str(resources.recovery().run(resting_s))
        except Exception as error:  # noqa: BLE001 - rows wait for the recovery, so every error repeats it
            log.warning("recovery_postponed", error=f"{type(error).__name__}: {error}")
            _redeliver(self, _backoff_s(self.request.retries))

    # Not shared: Celery registers a shared task with every app of the process.
    common = {"bind": True, "shared": False, "max_retries": None, "queue": CAPTION_QUEUE}
    app.task(name=CAPTION_TASK, Request=_request_class(resources), **common)(caption)
    patient = {"soft_time_limit": _RECOVERY_LIMIT_S, "time_limit": _RECOVERY_LIMIT_S + 60}
    app.task(name=RECOVER_TASK, **common | patient | {"queue": RECOVERY_QUEUE})(recover)


def _run_pipeline(resources: Resources, row_id: int, delivery: Delivery) -> Acknowledge | Redeliver:
    try:
        return resources.pipeline().run(row_id, delivery)
    except Exception as error:
        # Celery acknowledges the message of a failed task; the row would wait for the next recovery.
        log.exception("message_kept")
        return Redeliver(_backoff_s(delivery.retries), f"{type(error).__name__}: {error}")


def _redeliver(task: Task, delay_s: float) -> NoReturn:
    try:
        raise task.retry(countdown=delay_s)
    except Reject as error:
        # Redis did not take the copy, so the original message returns to the queue.
        raise Reject(error.reason, requeue=True) from error


def _backoff_s(retries: int) -> float:
    return float(min(_LONGEST_PAUSE_S, 2 ** min(retries, 10)))


def _delivery(request: Any) -> Delivery:
    redelivered = bool((request.delivery_info or {}).get("redelivered"))
    return Delivery(repeated=redelivered or request.retries > 0, retries=request.retries)


def _request_class(resources: Resources) -> type[Request]:
    class LeaseReleasingRequest(Request):
        """Releases the lease when the child dies, before the message returns to the queue."""

        def on_timeout(self, soft: bool, timeout: float) -> None:
            if not soft:
                self._release_lease()
            super().on_timeout(soft, timeout)

        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
            error = exc_info.exception
            if isinstance(error, ExceptionWithTraceback):
                error = error.exc
            if isinstance(error, WorkerLostError | Terminated | SystemExit):
                self._release_lease()
            super().on_failure(exc_info, *args, **kwargs)

        def _release_lease(self) -> None:
            if self.args and type(self.args[0]) is int:
                resources.release_lease(self.args[0])

    return LeaseReleasingRequest
