"""Recaption: captioned rows are captioned again, or their objects get a further task, in batches.

Rows first, then a message, then the worker pool is woken, as a redrive does. A row keeps its caption until the new
one is recorded. The pass reads the table in windows of ids; see `db.recaptions`.
"""

import time
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from db import recaptions, workers
from db.caption_filter import CaptionFilter
from db.reads import MOST_COUNTED, CaptionRecord
from db.recaptions import AddTask, Kind, Redo, Target, Work
from db.session import Connection, Database
from dropline.contract import Status, TaskRequest
from dropline.errors import ClientError
from dropline.settings import Settings
from operations.due_work import call_workers, open_operator, operator_transaction, wake_for_due_rows
from operations.pacing import Pacer

#: Rows per transaction.
BATCH = 500
#: Ids in the first window of a pass.
_FIRST_WINDOW = 5_000
#: Most ids in a window of a request: a request takes as many rows at most.
_WINDOW_OF_A_STEP = 20_000
#: After a window of less time, in seconds, follows a window of twice as many ids; after more time, of half.
_SHORT_S, _LONG_S = 0.1, 0.5
#: Statuses of rows with live objects: a further task is possible.
_LIVE = (Status.QUEUED, Status.RUNNING, Status.CAPTIONED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Request:
    """The rows a person wants captioned again."""

    row_filter: CaptionFilter = CaptionFilter()  # noqa: RUF009 - a frozen value
    #: The further task for the objects of the rows; None: the rows are captioned again.
    to_task: TaskRequest | None = None
    #: The model of captions left alone; None: the model of the latest worker.
    target_model: str | None = None
    #: The revision of captions left alone; None: the worker's, or any revision of `target_model`.
    target_revision: str | None = None
    #: Rows of the target are taken, too, and rows with a failed latest redo.
    force: bool = False
    #: Rows with a failed latest redo are taken, too.
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if self.to_task is None:
            self._require_captioned()
        elif self.force or self.retry_failed or self.target_model or self.target_revision:
            raise ClientError(
                "a further task replaces no caption: leave out target, force and the retry of failed redos"
            )
        elif unusable := [status for status in self.row_filter.statuses if status not in _LIVE]:
            raise ClientError(f"objects of {unusable[0]} rows are gone; a further task needs the object")
        if self.target_revision and not self.target_model:
            raise ClientError(
                f"the target's revision {self.target_revision!r} is without a model: name the target's model, too"
            )
        if self.force and self.row_filter == CaptionFilter():
            raise ClientError(
                "with force and without a filter, each row is captioned again, those of the target too: give a "
                "filter, such as captions older than the present time"
            )

    def _require_captioned(self) -> None:
        for status in self.row_filter.statuses:
            if status is Status.FAILED:
                raise ClientError(
                    "failed rows have no caption that could be redone; `dropline redrive` queues them"
                )
            if status is not Status.CAPTIONED:
                raise ClientError(f"{status} rows are not captioned again; only captioned rows are")


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a pass."""

    #: Taken rows, now due.
    taken: int
    #: The last id read, and the last one of the table at the start.
    read_to: int
    last_id: int


@dataclass(frozen=True, slots=True)
class Step:
    """The part of a pass in a single request of the API."""

    taken: int
    #: Rows left out after the filter, by reason.
    left: Counter[Kind]
    #: The last id read; None: the pass is at its end.
    read_to: int | None


@dataclass
class Recaptioner:
    """Recaptions rows. Two passes at the same time take different rows."""

    database: Database
    #: Enqueues a row by id; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Scales the worker pool up from zero; returns when Cloud Run has accepted the call.
    wake: Callable[[], None]
    on_progress: Callable[[Progress], None] = lambda _progress: None
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    #: Ids of the taken rows.
    taken: "array[int]" = field(default_factory=lambda: array("q"))
    #: Rows behind the filter so far, by kind; `TAKEN` counts rows before the taking.
    seen: Counter[Kind] = field(default_factory=Counter)

    def work_of(self, request: Request) -> Work:
        """The work of a pass.

        Raises:
            ClientError: no worker has started, and no target is named.
            DatabaseUnavailable: Postgres is unreachable.
            AccessDenied: the login may not read the rows.
        """
        if request.to_task is not None:
            return AddTask(request.row_filter, request.to_task)
        if request.force:
            return Redo(request.row_filter, None, retry_failed=True)
        return Redo(request.row_filter, self._target(request), retry_failed=request.retry_failed)

    def _target(self, request: Request) -> Target:
        if request.target_model is not None:
            return Target(request.target_model, request.target_revision)
        with operator_transaction(self.database) as connection:
            worker = workers.newest(connection)
        if worker is None:
            raise ClientError(
                "no worker has started yet, so the model of new captions is not known: start a worker, or name "
                "the target's model"
            )
        return Target(worker.model, worker.model_revision)

    def count(self, work: Work, most: int | None = None) -> Counter[Kind]:
        """The rows that pass the filter, by kind; ends once enough rows to take are found.

        Args:
            work: of `work_of`.
            most: rows to find; at most `db.reads.MOST_COUNTED` are found.
        """
        wanted = MOST_COUNTED if most is None else min(most, MOST_COUNTED)
        if isinstance(work, AddTask):
            work = replace(work, counts_objects=True)
        for window in self._windows(work, 0):
            self._report(window)
            if self.seen[Kind.TAKEN] >= wanted:
                self.seen[Kind.TAKEN] = wanted
                break
        return self.seen

    def recaption(self, work: Work, most: int | None = None, rate: float | None = None) -> None:
        """Take each row once, in the order of ids.

        Args:
            work: of `work_of`.
            most: the largest number of rows.
            rate: the largest number of rows per second.

        Raises:
            DatabaseUnavailable: Postgres is unreachable; the rows of the committed batches are due.
            BrokerUnavailable: Redis is unreachable, or refuses writes; the rows of the batch are due all the same.
            TransientError, ScalingDenied: the worker pool could not be scaled up; the rows are due.
            AccessDenied: the login may not change the rows.
        """
        pacer = Pacer(rate, self.clock, self.sleep)
        for window in self._windows(work, 0):
            self._take_window(work, window, most, pacer)
            self._report(window)
            if most is not None and len(self.taken) >= most:
                break
        if not self.taken:
            wake_for_due_rows(self.database, self.enqueue, self.wake)

    def step(self, work: Work, after: int, most: int | None, for_s: float) -> Step:
        """A part of a pass, from the ids above `after` on: some windows, for about `for_s` seconds.

        Ends after the window in which 500 rows have been taken. Raises the errors of `recaption`.
        """
        end = self.clock() + for_s
        for window in self._windows(work, after, _WINDOW_OF_A_STEP):
            self._take_window(work, window, most, Pacer(None))
            if most is not None and len(self.taken) >= most:
                break
            if window.is_last:
                break
            if len(self.taken) >= BATCH or self.clock() > end:
                return self._step(window.last)
        if not self.taken:
            wake_for_due_rows(self.database, self.enqueue, self.wake)
        return self._step(None)

    def redo(self, row: CaptionRecord) -> None:
        """Have one row captioned again, of the target too; a row to be redone already stays unchanged.

        Raises:
            ClientError: the row cannot be captioned again now.
            The errors of `recaption`.
        """
        work = Redo(CaptionFilter(), None, retry_failed=True)
        with self._transaction() as connection:
            batch = work.take(connection, row.id - 1, row.id, 1)
            left = work.count(connection, row.id - 1, row.id)
        if not batch.row_ids and not row.redo:
            raise ClientError(f"{row.version.uri} is not captioned again now: {_why_left(left, row.status)}")
        self.enqueue(row.id)
        self.wake()

    def _step(self, read_to: int | None) -> Step:
        left = self.seen.copy()
        del left[Kind.TAKEN]
        return Step(len(self.taken), left, read_to)

    def _windows(self, work: Work, after: int, largest: int | None = None) -> Iterator["_Window"]:
        """The windows of a pass; each is counted first, and the time of the count decides the size."""
        with self._transaction() as connection:
            end = recaptions.last_id(connection)
        size = _FIRST_WINDOW
        while after < end:
            last = min(after + size, end)
            began_at = self.clock()
            with self._transaction() as connection:
                counted = work.count(connection, after, last)
            size = _next_size(size, self.clock() - began_at, largest)
            self.seen += counted
            yield _Window(after, last, counted[Kind.TAKEN], end)
            after = last

    def _take_window(self, work: Work, window: "_Window", most: int | None, pacer: Pacer) -> None:
        after: int | None = window.after if window.takable else None
        while after is not None:
            size = pacer.most(BATCH if most is None else min(BATCH, most - len(self.taken)))
            if most is not None and len(self.taken) >= most:
                return
            pacer.wait()
            taken = len(self.taken)
            after = self._take(work, after, window, size)
            pacer.spend(len(self.taken) - taken)

    def _take(self, work: Work, after: int, window: "_Window", size: int) -> int | None:
        """Take a batch: the last id picked; None if no row is left."""
        with self._transaction() as connection:
            batch = work.take(connection, after, window.last, size)
        self.taken.extend(batch.row_ids)
        if batch.row_ids:
            call_workers(batch.row_ids[0], self.enqueue, self.wake, _due(len(self.taken)))
            self.on_progress(Progress(len(self.taken), batch.last_id or window.last, window.end))
        return batch.last_id

    def _report(self, window: "_Window") -> None:
        self.on_progress(Progress(len(self.taken), window.last, window.end))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        with operator_transaction(self.database) as connection:
            recaptions.plan_each(connection)
            yield connection


@dataclass(frozen=True, slots=True)
class _Window:
    """Ids above `after`, up to `last`."""

    after: int
    last: int
    #: Rows to take, as counted before.
    takable: int
    #: The last id of the table.
    end: int

    @property
    def is_last(self) -> bool:
        return self.last == self.end


def _next_size(size: int, took_s: float, largest: int | None) -> int:
    """The number of ids of the next window: statements of some tenths of a second."""
    following = size * 2 if took_s < _SHORT_S else max(1, size // 2) if took_s > _LONG_S else size
    return following if largest is None else min(following, largest)


def _why_left(left: Counter[Kind], status: Status) -> str:
    if left[Kind.EDITED]:
        return "its caption is a person's; put the model's back with `dropline edit --revert`"
    if left[Kind.OVERWRITTEN]:
        return "the object has a newer generation"
    if left[Kind.PENDING]:
        return "its caption is being written to the metadata; repeat the request in a minute"
    return f"its row is {status}, and only captioned rows are"


def _due(rows: int) -> str:
    return (
        f"{rows} rows are due, and a worker takes them when it starts or reconnects; repeat the command for the "
        "other rows"
    )


@contextmanager
def open_recaptioner(
    settings: Settings, on_progress: Callable[[Progress], None], on_wait: Callable[[str], None]
) -> Iterator[Recaptioner]:
    """A recaptioner; connections are opened on first use. Arguments and errors as of `open_redriver`."""
    with open_operator(settings, "dropline-recaption", on_wait) as operator:
        yield Recaptioner(operator.database, operator.enqueue, operator.wake, on_progress)
