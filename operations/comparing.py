"""The comparison of a bucket with its rows, as a merge of two streams in the order of the names. Pure."""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby

from db.bulk_rows import BulkRow
from db.reconciliation import ComparedRow
from dropline.contract import METADATA_CAPTION, METADATA_MODEL, METADATA_PROMPT, ObjectVersion
from dropline.settings import MetadataSettings
from dropline.storage.listing import ListedObject
from dropline.storage.metadata import fit_metadata
from operations.backfill_request import Chooser


class Difference(enum.StrEnum):
    """A difference between bucket and table."""

    #: Rows of an object version the bucket does not have.
    GONE = "gone"
    #: Rows of a noncurrent version without the status `superseded`.
    NONCURRENT = "noncurrent"
    #: A live object version without any row, which the rules admit.
    NO_ROW = "no_row"
    #: The metadata of an object differ from the row.
    METADATA = "metadata"


@dataclass(frozen=True, slots=True)
class Finding:
    """A difference."""

    difference: Difference
    version: ObjectVersion
    #: Of `NO_ROW`: the rows to insert.
    new_rows: tuple[BulkRow, ...] = ()
    #: Of `METADATA`: the row with the caption.
    row: ComparedRow | None = None
    #: Of `METADATA`: the wanted values, and the present values.
    expected: dict[str, str] | None = None
    actual: dict[str, str | None] | None = None


Pair = tuple[ListedObject | None, list[ComparedRow]]


def merge(objects: Iterable[ListedObject], rows: Iterable[ComparedRow]) -> Iterator[Pair]:
    """Each name of either stream once: the live object, and the rows.

    Args:
        objects: in the order of names, each name once.
        rows: in the order of object names.
    """
    live = iter(objects)
    groups = groupby(rows, key=lambda row: row.object_name)
    found, group = next(live, None), next(groups, None)
    while found is not None or group is not None:
        if group is None or (found is not None and found.version.name < group[0]):
            yield found, []
            found = next(live, None)
        elif found is None or group[0] < found.version.name:
            yield None, list(group[1])
            group = next(groups, None)
        else:
            yield found, list(group[1])
            found, group = next(live, None), next(groups, None)


class Comparison:
    """The rules of a comparison."""

    def __init__(
        self, bucket: str, chooser: Chooser, limits: MetadataSettings, younger_than: datetime | None
    ) -> None:
        """Store the parts.

        Args:
            bucket: of objects and rows.
            chooser: of the rows of objects.
            limits: of the metadata.
            younger_than: objects created later may wait for events; None: no object does.
        """
        self._bucket = bucket
        self._chooser = chooser
        self._limits = limits
        self._younger_than = younger_than

    def differences(self, found: ListedObject | None, rows: list[ComparedRow]) -> Iterator[Finding]:
        """The differences of one name, as of the read of both; `GONE` may be `NONCURRENT`."""
        live = None if found is None else found.version.generation
        unended = {row.generation for row in rows if not row.has_ended and row.generation != live}
        for generation in sorted(unended):
            version = ObjectVersion(self._bucket, rows[0].object_name, generation)
            yield Finding(Difference.GONE, version)
        if found is None:
            return
        of_live = [row for row in rows if row.generation == live]
        if not of_live:
            yield from self._without_row(found)
        for row in of_live:
            yield from self._other_metadata(found, row)

    def _without_row(self, found: ListedObject) -> Iterator[Finding]:
        limit, created_at = self._younger_than, found.created_at
        if limit is not None and created_at is not None and created_at > limit:
            return
        chosen = self._chooser.choose(found)
        if not isinstance(chosen, str):
            yield Finding(Difference.NO_ROW, found.version, new_rows=tuple(chosen))

    def _other_metadata(self, found: ListedObject, row: ComparedRow) -> Iterator[Finding]:
        if not row.is_written:
            return
        actual = dict(found.metadata or {})
        ours = {
            METADATA_CAPTION: row.caption or "",
            METADATA_PROMPT: row.task,
            METADATA_MODEL: row.model or "",
        }
        # A caption of a person, and a caption too long, are no difference: no write would follow.
        expected = fit_metadata(actual, ours, self._limits, is_reverted=row.reverted_at is not None).values
        if not expected.items() <= actual.items():
            yield Finding(
                Difference.METADATA,
                found.version,
                row=row,
                expected=expected,
                actual={key: actual.get(key) for key in expected},
            )
