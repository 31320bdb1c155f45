"""Backfill: rows for the objects of a full bucket, in batches, each committed with its cursor."""

import os
import socket
import uuid
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from db import backfills, bulk_rows, due_rows
from db.backfills import BackfillRecord, MeasuredRate
from db.bulk_rows import BulkRow, Registered
from db.session import Database
from dropline.contract import ObjectVersion
from dropline.deadline import Deadline
from dropline.settings import Settings
from dropline.storage.listing import Listing
from operations.backfill_request import BackfillRequest, Chooser, require_ours, selection_of
from operations.backfill_sources import BucketObjects, Item, ListedNames, Objects, digest_of
from operations.bulk_parts import open_bulk_parts
from operations.due_work import call_workers
from operations.pacing import Pacer, Spaced

#: Rows per transaction, each with a lock.
BATCH = 500
#: Objects per transaction; most may have rows.
_MOST_ITEMS = 2000
_QUEUED = (
    "the rows so far are queued, and a worker takes them when it starts or reconnects; the same command again "
    "continues"
)
#: Workers are woken once in so many seconds.
_WAKE_EVERY_S = 10.0

#: Called after each batch, with the part of the source read, from 0 to 1.
OnProgress = Callable[[BackfillRecord, float], None]


@dataclass(frozen=True, slots=True)
class BackfillPlan:
    """The result of a dry run."""

    #: Objects read.
    listed: int
    #: Rows in the table.
    existing: int
    #: Rows to insert for a worker.
    queued: int
    #: Rows to insert with the caption of a person, from the object's metadata.
    adopted: int
    #: Rows of objects refused without a download.
    failed: int
    #: Bytes of the objects of `queued`.
    queued_bytes: int
    #: Other objects, by reason.
    left_out: dict[str, int]
    #: Of the latest captions; None: too few.
    rate: MeasuredRate | None
    #: Price of a worker for an hour; 0: unknown.
    hourly_price: float

    @property
    def seconds(self) -> float | None:
        """Time at the measured rate."""
        return None if self.rate is None else self.queued / self.rate.per_second

    @property
    def price(self) -> float | None:
        """Price of the workers for the time."""
        if self.seconds is None or self.rate is None or not self.hourly_price:
            return None
        return self.seconds / 3600 * self.rate.workers * self.hourly_price


class Backfiller:
    """Carries out backfills, each after the other."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        listing: Listing,
        enqueue: Callable[[int], None],
        wake: Callable[[], None],
    ) -> None:
        """Store the parts.

        Args:
            settings: with the rules of events.
            database: with the rights of `db.start_check.BULK`.
            listing: of the bucket.
            enqueue: sends a message of a row; raises BrokerUnavailable.
            wake: scales the worker pool up from zero.

        Raises:
            SettingsError: a glob of the rules cannot be read.
        """
        self._settings = settings
        self._database = database
        self._listing = listing
        self._enqueue = enqueue
        self._wake = wake
        self._selection = selection_of(settings)

    def plan(self, request: BackfillRequest, names: Path | None = None) -> BackfillPlan:
        """Read all objects, and count the effects of `run`; reads alone. Raises as `run`."""
        require_ours(self._selection, request.source.bucket)
        objects = self._objects(request, names, {})
        chooser = Chooser(self._selection, request, request.since)
        listed = existing = queued = adopted = failed = size = 0
        left_out: Counter[str] = Counter()
        for batch in _batches(objects, chooser, lambda: _Limits(BATCH)):
            with self._database.transaction() as connection:
                new = bulk_rows.missing(connection, request.source.bucket, batch.rows)
            listed += batch.listed
            existing += len(batch.rows) - len(new)
            left_out += batch.left_out
            if request.most is not None:
                new = new[: request.most - queued - adopted - failed]
            refused = [row for row in new if row.error_code is not None]
            adopted_now = [row for row in new if row.has_own_answer]
            queued_now = [row for row in new if row.error_code is None and not row.has_own_answer]
            queued += len(queued_now)
            adopted += len(adopted_now)
            failed += len(refused)
            size += sum(row.facts.size_bytes or 0 for row in queued_now)
            if request.most is not None and queued + adopted + failed >= request.most:
                break
        with self._database.transaction() as connection:
            rate = backfills.measured_rate(connection)
        price = self._settings.worker.hourly_price
        return BackfillPlan(listed, existing, queued, adopted, failed, size, dict(left_out), rate, price)

    def run(
        self,
        request: BackfillRequest,
        names: Path | None = None,
        *,
        on_progress: OnProgress = lambda _record, _part: None,
        pacer: Pacer | None = None,
        until: Deadline | None = None,
    ) -> BackfillRecord:
        """Insert the missing rows, from the beginning or from where an earlier run was ended.

        Args:
            request: objects and limits.
            names: a list of names, in place of a listing.
            on_progress: called after each batch.
            pacer: of `request.rate`.
            until: return an unfinished backfill after the deadline; None: never.

        Raises:
            ForeignBucket: the bucket is not one of DROPLINE_EVENTS__BUCKETS.
            ObjectMissing, AccessDenied, StorageUnavailable, ClientError: the bucket cannot be read.
            DatabaseUnavailable, BrokerUnavailable, ScalingDenied, TransientError: the batches before are
                committed, and the same call continues behind the last batch.
            BackfillTakenOver: another process continues the backfill.
        """
        require_ours(self._selection, request.source.bucket)
        runner = f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:12]}"
        with self._database.transaction() as connection:
            record = backfills.start(connection, request.source.uri, request.options, request.since, runner)
        objects = self._objects(request, names, record.cursor)
        run = _Run(self._database, request, record, runner, pacer or Pacer(request.rate))
        wake = Spaced(self._wake_workers, _WAKE_EVERY_S)
        chooser = Chooser(self._selection, request, record.since)
        with closing(_batches(objects, chooser, run.limits)) as batches:
            for batch in batches:
                registered = run.insert(objects, batch)
                if registered.first_queued_id is not None:
                    wake(registered.first_queued_id)
                on_progress(run.record, objects.part_read)
                if until is not None and not until.remaining_s():
                    wake.flush()
                    return run.record
        wake.flush()
        record = run.finish()
        if not run.queued:
            self._wake_for_due_rows()
        return record

    def find(self, backfill_id: int) -> BackfillRecord | None:
        """The backfill with the id, or None."""
        with self._database.transaction() as connection:
            return backfills.find(connection, backfill_id)

    def _objects(self, request: BackfillRequest, names: Path | None, cursor: dict[str, object]) -> Objects:
        if names is not None:
            return ListedNames(self._listing, request.source, names, cursor, self._with_rows)
        return BucketObjects(self._listing, request.source, cursor)

    def _with_rows(self, bucket: str, versions: set[ObjectVersion]) -> set[ObjectVersion]:
        with self._database.transaction() as connection:
            return bulk_rows.with_rows(connection, bucket, versions)

    def _wake_workers(self, row_id: int) -> None:
        call_workers(row_id, self._enqueue, self._wake, _QUEUED)

    def _wake_for_due_rows(self) -> None:
        """A run killed behind its last batch left due rows, and perhaps a sleeping pool."""
        with self._database.transaction() as connection:
            due = due_rows.look(connection, 1)
        if due.row_ids:
            self._wake_workers(due.row_ids[0])


def inserted(record: BackfillRecord) -> int:
    """The rows inserted by the backfill for objects of the bucket."""
    return record.queued + record.adopted + record.failed


@dataclass(frozen=True, slots=True)
class _Batch:
    part: int
    rows: list[BulkRow]
    #: Numbers of the other objects, by reason.
    left_out: Counter[str]
    #: Objects read.
    listed: int
    #: Of the last item; None without an item.
    position: str | int | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class _Limits:
    """The rows of a batch."""

    #: Most rows; one object may have more.
    size: int
    #: Rows until the backfill has as many as asked for; None: no limit.
    left: int | None = None


@dataclass(slots=True)
class _Run:
    """The batches of a run."""

    database: Database
    request: BackfillRequest
    record: BackfillRecord
    runner: str
    pacer: Pacer
    #: Rows queued by the run.
    queued: int = 0

    def limits(self) -> _Limits:
        """The limits of the next batch."""
        most = self.request.most
        return _Limits(self.pacer.most(BATCH), None if most is None else max(0, most - inserted(self.record)))

    def insert(self, objects: Objects, batch: _Batch) -> Registered:
        """Commit a batch and the cursor behind the batch."""
        objects.advance(batch.part, batch.position, is_done=batch.is_last)
        if batch.rows:
            self.pacer.wait()
        with self.database.transaction() as connection:
            self.record, registered = backfills.advance(
                connection,
                self.record.id,
                self.runner,
                self.request.source.bucket,
                batch.rows,
                objects.cursor,
                batch.left_out,
                listed=batch.listed,
            )
        self.queued += registered.queued
        self.pacer.spend(registered.queued + registered.adopted + registered.failed)
        return registered

    def finish(self) -> BackfillRecord:
        """Set the backfill to finished."""
        with self.database.transaction() as connection:
            return backfills.finish(connection, self.record.id, self.runner)


def _batches(objects: Objects, chooser: Chooser, limits: Callable[[], _Limits]) -> Generator[_Batch, None, None]:
    """The items in batches; `limits` gives the limits of the next batch, and ends the iterator at a limit of 0."""
    with closing(objects.stretches()) as stretches:
        for stretch in stretches:
            items = deque(stretch.items)
            while items or (stretch.is_last and not stretch.items):
                now = limits()
                if now.left == 0:
                    return
                yield _next_batch(stretch.part, items, stretch.is_last, chooser, now)
                if not items:
                    break


def _next_batch(part: int, items: deque[Item], is_last: bool, chooser: Chooser, limits: _Limits) -> _Batch:
    rows: list[BulkRow] = []
    left_out: Counter[str] = Counter()
    position, listed = None, 0
    size = limits.size if limits.left is None else min(limits.size, limits.left)
    while items and len(rows) < size and listed < _MOST_ITEMS:
        item = items[0]
        choice = "missing" if item.found is None else chooser.choose(item.found)
        if isinstance(choice, str):
            left_out[choice] += 1
        elif rows and len(rows) + len(choice) > size:
            break
        else:
            # The cursor would be behind the object: only `--max` may cut it, and the next backfill has the rest.
            rows += choice[: limits.left]
        items.popleft()
        position, listed = item.position, listed + 1
    return _Batch(part, rows, left_out, listed, position, is_last and not items)


def with_list(request: BackfillRequest, names: Path | None) -> BackfillRequest:
    """The request for the objects of a list of names.

    Raises:
        ClientError: the file cannot be read.
    """
    return request if names is None else replace(request, list_digest=digest_of(names)[0])


@contextmanager
def open_backfiller(settings: Settings, on_wait: Callable[[str], None]) -> Iterator[Backfiller]:
    """A backfiller; connections are opened on first use.

    Args:
        settings: with Postgres, Redis, Cloud Storage and, for scale to zero, the worker pool.
        on_wait: called before each pause of a call to wake the worker pool, with the reason.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: no credentials were found.
    """
    with open_bulk_parts(settings, "dropline-backfill", on_wait) as (database, listing, enqueue, wake):
        yield Backfiller(settings, database, listing, enqueue, wake)
