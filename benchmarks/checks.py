"""Figures count only where every row and every message is as it has to be. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from benchmarks.errors import RunInvalidError


@dataclass(frozen=True)
class RowTimes:
    """What is looked at in a row after the run; times are Postgres's own."""

    id: int
    status: str
    attempts: int
    queued_at: datetime
    started_at: datetime | None
    captioned_at: datetime | None
    metadata_written_at: datetime | None

    @property
    def captioned_once(self) -> bool:
        """Whether one attempt captioned it, and its metadata is written."""
        done = self.captioned_at is not None and self.metadata_written_at is not None
        return self.status == "captioned" and self.attempts == 1 and done


#: The columns of `RowTimes`, in its order.
ROW_TIMES_QUERY = """
    SELECT id, status, attempts, queued_at, started_at, captioned_at, metadata_written_at FROM captions ORDER BY id
"""


def require_statuses(statuses: Sequence[int]) -> None:
    """Every event has to be answered with 204.

    Raises:
        RunInvalidError: one was not; says how many of which.
    """
    wrong = Counter(status for status in statuses if status != 204)
    if wrong:
        raise RunInvalidError(f"of {len(statuses)} events, these were not answered with 204: {dict(wrong)}")


def require_enqueued(row_ids: Sequence[int], messages: Counter[int], expected: int) -> None:
    """There have to be exactly `expected` rows, and exactly one message for each.

    Raises:
        RunInvalidError: rows or messages are missing, or there are too many.
    """
    if len(row_ids) != expected:
        raise RunInvalidError(f"there are {len(row_ids)} rows where {expected} should be")
    if messages != Counter(row_ids):
        missing = Counter(row_ids) - messages
        surplus = messages - Counter(row_ids)
        raise RunInvalidError(
            f"of {expected} rows, {missing.total()} have no message on Redis, and {surplus.total()} messages are "
            "too many"
        )


def require_captioned_once(rows: Sequence[RowTimes], expected: int) -> None:
    """There have to be exactly `expected` rows, each captioned by its first attempt and written back.

    Raises:
        RunInvalidError: one is not; shows the first of them.
    """
    if len(rows) != expected:
        raise RunInvalidError(f"there are {len(rows)} rows where {expected} should be")
    wrong = [row for row in rows if not row.captioned_once]
    if wrong:
        raise RunInvalidError(f"{len(wrong)} of {expected} rows were not captioned exactly once, first {wrong[0]}")
