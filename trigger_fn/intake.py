"""The effects of an event: first the row, then the message."""

from dataclasses import dataclass
from typing import Any, Protocol

from db.object_rows import RegisteredRow
from dropline.contract import FilterReason
from dropline.deadline import Deadline
from dropline.selection import Accept, Filtered, Reject, Selection
from dropline.task_list import written
from trigger_fn.events import EventKind, ObjectEvent


class Rows(Protocol):
    """The rows in Postgres; see `trigger_fn.rows.CaptionRows`."""

    def register(self, event: ObjectEvent, accepted: Accept, deadline: Deadline) -> list[RegisteredRow]: ...

    def reject(self, event: ObjectEvent, verdict: Reject, deadline: Deadline) -> RegisteredRow: ...

    def record_deletion(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None: ...

    def record_archival(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None: ...

    def count_filtered(self, event: ObjectEvent, reason: FilterReason, deadline: Deadline) -> None: ...


class Queue(Protocol):
    """The queue on Redis; see `dropline.broker.queue.CaptionQueue`."""

    def enqueue(self, row_id: int, deadline: Deadline) -> None: ...


class Workers(Protocol):
    """The worker pool; see `trigger_fn.activation.DeadlineActivator`."""

    def ensure_awake(self, deadline: Deadline) -> None: ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an event: the name and the fields of its log line."""

    log_event: str
    details: dict[str, Any]


class Intake:
    """Applies events to the rows and the queue. Thread-safe.

    A repeated event has no further effect, except that each delivery of a filtered object is counted.
    """

    def __init__(self, selection: Selection, rows: Rows, queue: Queue, workers: Workers | None = None) -> None:
        """An intake; `workers` is None for a deployment without scale to zero."""
        self._selection = selection
        self._rows = rows
        self._queue = queue
        self._workers = workers

    def handle(self, event: ObjectEvent, deadline: Deadline) -> Outcome:
        """Apply an event; the event may be acknowledged when the method returns.

        Raises:
            ForeignBucket: the bucket is not configured; no row and no message was written.
            DatabaseUnavailable: Postgres is unavailable; the row may exist, and a filtered event may be counted.
            BrokerUnavailable: the row exists, but Redis is unavailable; a redelivered event enqueues the row.
            TransientError, ScalingDenied: row and message exist, but the worker pool may be at zero; a redelivered
                event scales the worker pool up.
        """
        self._selection.require_ours(event.version)
        if event.kind is not EventKind.FINALIZED:
            return self._record_end(event, deadline)
        match self._selection.judge(event.version, event.facts, event.task):
            case Filtered(reason):
                return self._count_filtered(event, reason, deadline)
            case Reject() as verdict:
                return self._reject(event, verdict, deadline)
            case Accept() as verdict:
                return self._accept(event, verdict, deadline)

    def wake(self, deadline: Deadline) -> Outcome:
        """Scale the worker pool up: its rows are due. A worker finds them when it is ready.

        Raises:
            TransientError, ScalingDenied: the worker pool may be at zero; the call must be repeated.
        """
        if self._workers is not None:
            self._workers.ensure_awake(deadline)
        return Outcome("rows_due", {})

    def _accept(self, event: ObjectEvent, verdict: Accept, deadline: Deadline) -> Outcome:
        rows = self._rows.register(event, verdict, deadline)
        unfinished = [row for row in rows if not row.status.is_terminal]
        if unfinished:
            # For an existing row too: the function may have died between the commit and the enqueue.
            # One message is enough: its child claims the rows of the object together.
            self._queue.enqueue(unfinished[0].row_id, deadline)
            if self._workers is not None:
                self._workers.ensure_awake(deadline)
        details = {**_described(rows[0]), "task": written(verdict.tasks), "enqueued": bool(unfinished)}
        if verdict.wrong is not None:
            details |= {"code": verdict.wrong.code, "error": verdict.wrong.error}
        return Outcome("event_accepted", details)

    def _reject(self, event: ObjectEvent, verdict: Reject, deadline: Deadline) -> Outcome:
        row = self._rows.reject(event, verdict, deadline)
        return Outcome("event_rejected", {**_described(row), "code": verdict.code, "error": verdict.error})

    def _count_filtered(self, event: ObjectEvent, reason: FilterReason, deadline: Deadline) -> Outcome:
        self._rows.count_filtered(event, reason, deadline)
        return Outcome("event_filtered", {"reason": reason.value, "setting": reason.setting})

    def _record_end(self, event: ObjectEvent, deadline: Deadline) -> Outcome:
        """Filters do not protect rows: a filter or the content type may have changed after the captioning."""
        expected = self._selection.filtered(event.version, event.facts) is None
        if event.kind is EventKind.DELETED:
            self._rows.record_deletion(event, expected=expected, deadline=deadline)
        else:
            self._rows.record_archival(event, expected=expected, deadline=deadline)
        return Outcome(f"event_{event.kind.value}", {})


def _described(row: RegisteredRow) -> dict[str, Any]:
    return {"row_id": row.row_id, "status": row.status.value, "created": row.created}
