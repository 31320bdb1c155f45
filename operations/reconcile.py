"""Reconciliation: a bucket is compared with the table both ways; a difference is checked again, then repaired."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from db import bulk_rows, object_rows, reconciliation
from db.reconciliation import ComparedRow
from db.session import Connection, Database
from dropline.settings import Settings
from dropline.storage.listing import ListedObject, Listing
from dropline.storage.name_ranges import NameRange, after_prefix
from operations.backfill_request import BackfillRequest, Chooser, Source, require_ours, selection_of
from operations.bulk_parts import open_bulk_parts
from operations.comparing import Comparison, Difference, Finding, merge
from operations.pacing import Spaced
from operations.read_ahead import read_ahead

#: Rows of one read.
_PAGE = 2000
#: Differences checked again together, and requests at a time.
_BATCH = 200
_REQUESTS = 16
_WAKE_EVERY_S = 10.0
#: Events of younger objects may be on their way, in seconds.
YOUNG_S = 600.0


@dataclass(slots=True)
class Reconciled:
    """The counts of a reconciliation."""

    objects: int = 0
    rows: int = 0
    found: Counter[Difference] = field(default_factory=Counter)
    fixed: Counter[Difference] = field(default_factory=Counter)


class Reconciler:
    """Compares buckets with the table, each after the other."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        listing: Listing,
        enqueue: Callable[[int], None],
        wake: Callable[[], None],
    ) -> None:
        """Store the parts, which are those of `operations.backfill.Backfiller`."""
        self._settings = settings
        self._database = database
        self._listing = listing
        self._enqueue = enqueue
        self._wake = wake

    def run(
        self,
        source: Source,
        *,
        fix: bool = False,
        archived: bool = False,
        young_s: float = YOUNG_S,
        on_finding: Callable[[Finding, bool], None] = lambda _finding, _fixed: None,
        on_progress: Callable[[Reconciled], None] = lambda _counts: None,
    ) -> Reconciled:
        """Compare, and with `fix` repair. An object that changes meanwhile is no difference.

        The live objects are read before the rows of the same names. A difference is reported only if a second look
        at the object, and then at its rows, shows it too.

        Args:
            source: the objects, and the rows of such names.
            fix: rows of object versions that are gone become `deleted`, and those of noncurrent ones `superseded`,
                as by the event; objects without a row get one, as by a backfill; the write-back of metadata is
                repeated by a worker, without the model.
            archived: also objects without a row in storage classes with a retrieval fee.
            young_s: younger objects without a row are left alone, in seconds.
            on_finding: called for each difference, with whether it was repaired.
            on_progress: called now and then.

        Raises:
            ForeignBucket, ObjectMissing, AccessDenied, StorageUnavailable, DatabaseUnavailable.
            BrokerUnavailable, ScalingDenied, TransientError: the workers could not be woken; the repairs are made.
        """
        comparison = self._comparison(source, archived, young_s)
        counts = Reconciled()
        spaced = Spaced(self._wake_workers, _WAKE_EVERY_S)
        with ThreadPoolExecutor(_REQUESTS, thread_name_prefix="reconcile") as threads:

            def check(suspects: list[Finding]) -> None:
                looks = zip(suspects, threads.map(self._look_again, suspects), strict=True)
                for suspect, live in list(looks):
                    self._settle(comparison, suspect, live, counts, fix, on_finding, spaced)
                on_progress(counts)

            suspects: list[Finding] = []
            for found, rows in merge(self._objects(source, counts), self._rows(source, counts)):
                suspects += comparison.differences(found, rows)
                if len(suspects) >= _BATCH:
                    check(suspects)
                    suspects = []
            check(suspects)
        spaced.flush()
        return counts

    def _comparison(self, source: Source, archived: bool, young_s: float) -> Comparison:
        selection = selection_of(self._settings)
        require_ours(selection, source.bucket)
        chooser = Chooser(selection, BackfillRequest(source, archived=archived), None)
        younger_than = datetime.now(UTC) - timedelta(seconds=young_s) if young_s else None
        return Comparison(source.bucket, chooser, self._settings.metadata, younger_than)

    def _objects(self, source: Source, counts: Reconciled) -> Iterator[ListedObject]:
        names = NameRange(source.prefix, after_prefix(source.prefix))

        def pages() -> Iterator[list[ListedObject]]:
            return self._listing.pages(source.bucket, names, source.pattern)

        with closing(read_ahead([pages], threads=1, parts=3)) as parts:
            for part in parts:
                for found in part.value or ():
                    if source.matches(found.version.name):
                        counts.objects += 1
                        yield found

    def _rows(self, source: Source, counts: Reconciled) -> Iterator[ComparedRow]:
        after: ComparedRow | None = None
        end = after_prefix(source.prefix)
        while True:
            with self._database.transaction() as connection:
                page = reconciliation.rows_in_order(connection, source.bucket, source.prefix, end, after, _PAGE)
            for row in page:
                if source.matches(row.object_name):
                    counts.rows += 1
                    yield row
            if len(page) < _PAGE:
                return
            after = page[-1]

    def _look_again(self, suspect: Finding) -> "_Look":
        """The object of a difference now."""
        version = suspect.version
        if suspect.difference is Difference.GONE and not self._listing.has_generation(version):
            return _Look(None, exists=False)
        return _Look(self._listing.find(version.bucket, version.name), exists=True)

    def _settle(
        self,
        comparison: Comparison,
        suspect: Finding,
        look: "_Look",
        counts: Reconciled,
        fix: bool,
        on_finding: Callable[[Finding, bool], None],
        wake: Spaced,
    ) -> None:
        """Compare the object with its rows once more; count, repair and report the difference."""
        with self._database.transaction() as connection:
            rows = reconciliation.rows_of_object(connection, suspect.version.bucket, suspect.version.name)
            again = comparison.differences(look.found, rows)
            finding = next((each for each in again if _is_same(each, suspect)), None)
            if finding is None:
                return
            if finding.difference is Difference.GONE and look.exists:
                finding = replace(finding, difference=Difference.NONCURRENT)
            row_id = self._repair(connection, finding) if fix else None
        counts.found[finding.difference] += 1
        if row_id is not None:
            counts.fixed[finding.difference] += 1
            if row_id:
                wake(row_id)
        on_finding(finding, row_id is not None)

    def _repair(self, connection: Connection, finding: Finding) -> int | None:
        """Repair a difference; the id of a row for a worker, 0 without such a row, None without an effect."""
        match finding.difference:
            case Difference.GONE:
                erase = self._settings.retention.erase_on_delete
                object_rows.tombstone(connection, finding.version, insert=False, erase=erase)
                return 0
            case Difference.NONCURRENT:
                object_rows.archive(connection, finding.version, insert=False)
                return 0
            case Difference.NO_ROW:
                new = bulk_rows.register(connection, finding.version.bucket, finding.new_rows)
                return (new.first_queued_id or 0) if new.first_id is not None else None
            case Difference.METADATA:
                assert finding.row is not None
                return finding.row.id if reconciliation.repeat_write_back(connection, finding.row) else None

    def _wake_workers(self, row_id: int) -> None:
        self._enqueue(row_id)
        self._wake()


@dataclass(frozen=True, slots=True)
class _Look:
    """The second look at an object."""

    #: The live version; None: no such version, or not looked up.
    found: ListedObject | None
    #: Whether the bucket has the generation of the difference.
    exists: bool


def _is_same(one: Finding, other: Finding) -> bool:
    is_same_row = (one.row is None) == (other.row is None) and (
        one.row is None or other.row is None or one.row.id == other.row.id
    )
    return one.difference is other.difference and one.version == other.version and is_same_row


@contextmanager
def open_reconciler(settings: Settings, on_wait: Callable[[str], None]) -> Iterator[Reconciler]:
    """A reconciler; arguments and errors as of `operations.backfill.open_backfiller`."""
    with open_bulk_parts(settings, "dropline-reconcile", on_wait) as (database, listing, enqueue, wake):
        yield Reconciler(settings, database, listing, enqueue, wake)
