"""Celery's tasks: thin; they apply what the pipeline decides."""

import base64
import json
from collections.abc import Callable
from typing import Any, NoReturn

import structlog
from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import Terminated, WorkerLostError
from celery import Celery, Task
from celery.exceptions import Reject
from celery.worker.request import Request
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dropline.contract import CAPTION_QUEUE, CAPTION_TASK, RECOVER_TASK, RECOVERY_QUEUE
from dropline.errors import BrokerUnavailable
from dropline.log import get_logger
from worker.pipeline import Delivery, Finished, Later, Pipeline
from worker.recovery import HEAD_LENGTH, Enqueue

log = get_logger(__name__)

#: Frees the lease of a row whose process is known to be dead; called in the parent.
ReleaseLease = Callable[[int], None]
#: Runs a recovery: `(head, enqueue, finished, resting_s)`.
Recover = Callable[[Callable[[], list[int]], Enqueue, Callable[[], None], float], Any]

#: There while a recovery is under way; whoever finds it knows that one was cut short.
RECOVERY_MARK = "dropline.recovery.unfinished"
#: A recovery of a million rows takes minutes, and must not be cut short like an image.
_RECOVERY_LIMIT_S = 6 * 3600
_LONGEST_PAUSE_S = 64


def register_tasks(
    app: Celery, pipeline: Callable[[], Pipeline], run_recovery: Recover, release: ReleaseLease
) -> None:
    """Give the app its two tasks.

    Args:
        pipeline: the child's pipeline; built on first use, in the child.
        run_recovery: recovers with the given reader of the queue's head, enqueuer, report of its end, and seconds
            for which rows that were put back are left alone.
        release: frees a row's lease.
    """

    def caption(self: Task, row_id: Any) -> str:
        with structlog.contextvars.bound_contextvars(task_id=self.request.id, row_id=row_id):
            if type(row_id) is not int or row_id < 1:
                log.error("unusable_message", args=repr(self.request.args)[:200])
                return "unusable"
            match _worked(pipeline, row_id, _delivery(self.request)):
                case Later(delay_s, reason):
                    log.info("later", delay_s=round(delay_s, 3), reason=reason)
                    _send_again(self, delay_s)
                case Finished(result):
                    log.info("finished", outcome=result)
                    return result

    def recover_task(self: Task, resting_s: float = 0.0) -> str:
        try:
            return str(
                run_recovery(
                    lambda: begin_recovery(app),
                    lambda row, wait: send_row(app, row, wait),
                    lambda: end_recovery(app),
                    resting_s,
                )
            )
        except Exception as error:  # noqa: BLE001 - whatever it was, rows wait for this
            log.warning("recovery_postponed", error=f"{type(error).__name__}: {error}")
            _send_again(self, _pause_s(self.request.retries))

    # Not shared: Celery would register a shared task with every other app of the process, too.
    common = {"bind": True, "shared": False, "max_retries": None, "queue": CAPTION_QUEUE}
    app.task(name=CAPTION_TASK, Request=_request_class(release), **common)(caption)
    patient = {"soft_time_limit": _RECOVERY_LIMIT_S, "time_limit": _RECOVERY_LIMIT_S + 60}
    app.task(name=RECOVER_TASK, **common | patient | {"queue": RECOVERY_QUEUE})(recover_task)


def _worked(pipeline: Callable[[], Pipeline], row_id: int, delivery: Delivery) -> Finished | Later:
    try:
        return pipeline().run(row_id, delivery)
    except Exception as error:
        # A failed task is acknowledged, and its row would wait for the next recovery.
        log.exception("message_kept")
        return Later(_pause_s(delivery.retries), f"{type(error).__name__}: {error}")


def _send_again(task: Task, delay_s: float) -> NoReturn:
    try:
        raise task.retry(countdown=delay_s)
    except Reject as error:
        # Redis did not take the copy: the message itself has to go back.
        raise Reject(error.reason, requeue=True) from error


def _pause_s(retries: int) -> float:
    return float(min(_LONGEST_PAUSE_S, 2 ** min(retries, 10)))


def send_row(app: Celery, row_id: int, countdown_s: float) -> None:
    """Put a row on the broker.

    Raises:
        BrokerUnavailable: Redis cannot be reached.
    """
    try:
        # A delayed one counts as repeated: by a clock that is ahead it comes while the lease runs, and must wait.
        app.send_task(
            CAPTION_TASK,
            [row_id],
            queue=CAPTION_QUEUE,
            countdown=countdown_s or None,
            retries=1 if countdown_s else 0,
            retry=False,
        )
    except (OperationalError, RedisError) as error:
        raise BrokerUnavailable(f"cannot enqueue row {row_id}: {error}") from error


def begin_recovery(app: Celery) -> list[int]:
    """Row ids of the oldest messages on the queue; none after a recovery that was cut short.

    What that one has enqueued is at the head of the queue, and hides the rows behind it that are not there.
    What dead workers had taken, and Redis still holds for them, is put back before.

    Raises:
        BrokerUnavailable: Redis cannot be reached.
    """
    try:
        with app.connection_for_write() as connection:
            channel = connection.default_channel
            client = channel.client
            # Kombu's sweep, once: whatever was taken longer ago than the visibility timeout.
            channel.qos.restore_visible(num=None, interval=1)
            if not client.setnx(RECOVERY_MARK, 1):
                return []
            bodies = client.lrange(CAPTION_QUEUE, -HEAD_LENGTH, -1)
    except (OperationalError, RedisError) as error:
        raise BrokerUnavailable(f"cannot look at the queue: {error}") from error
    return [row_id for row_id in map(_row_id_of, bodies) if row_id is not None]


def end_recovery(app: Celery) -> None:
    """Note that everything is on the queue.

    Raises:
        BrokerUnavailable: Redis cannot be reached.
    """
    try:
        with app.connection_for_write() as connection:
            connection.default_channel.client.delete(RECOVERY_MARK)
    except (OperationalError, RedisError) as error:
        raise BrokerUnavailable(f"cannot note the end of the recovery: {error}") from error


def _row_id_of(message: bytes) -> int | None:
    try:
        arguments = json.loads(base64.b64decode(json.loads(message)["body"]))[0]
        return int(arguments[0])
    except (ValueError, TypeError, KeyError, IndexError):
        return None  # not ours; whoever takes it off the queue says so


def _delivery(request: Any) -> Delivery:
    redelivered = bool((request.delivery_info or {}).get("redelivered"))
    return Delivery(repeated=redelivered or request.retries > 0, retries=request.retries)


def _request_class(release: ReleaseLease) -> type[Request]:
    class CaptionRequest(Request):
        """Frees the row when its child dies, before the message goes back to the queue."""

        def on_timeout(self, soft: bool, timeout: float) -> None:
            if not soft:
                self._release()
            super().on_timeout(soft, timeout)

        def on_failure(self, exc_info: Any, *args: Any, **kwargs: Any) -> None:
            error = exc_info.exception
            if isinstance(error, ExceptionWithTraceback):
                error = error.exc
            if isinstance(error, WorkerLostError | Terminated | SystemExit):
                self._release()
            super().on_failure(exc_info, *args, **kwargs)

        def _release(self) -> None:
            if self.args and type(self.args[0]) is int:
                release(self.args[0])

    return CaptionRequest
