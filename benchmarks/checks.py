"""Checks of a run: figures are valid only if every row and every message is as expected. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


class RunInvalidError(Exception):
    """A run whose figures have no meaning; the message has the unexpected finding."""


@dataclass(frozen=True)
class RowTimes:
    """The columns of a row checked after a run; the times are those of Postgres."""

    id: int
    status: str
    attempts: int
    queued_at: datetime
    started_at: datetime | None
    captioned_at: datetime | None
    metadata_written_at: datetime | None

    @property
    def captioned_once(self) -> bool:
        """True if the first attempt captioned the row and the metadata is written."""
        done = self.captioned_at is not None and self.metadata_written_at is not None
        return self.status == "captioned" and self.attempts == 1 and done


#: The columns in the order of the fields of `RowTimes`.
ROW_TIMES_QUERY = """
    SELECT id, status, attempts, queued_at, started_at, captioned_at, metadata_written_at FROM captions ORDER BY id
"""


def require_statuses(statuses: Sequence[int]) -> None:
    """Require the status 204 for every event.

    Raises:
        RunInvalidError: the number of other responses, by status.
    """
    wrong = Counter(status for status in statuses if status != 204)
    if wrong:
        raise RunInvalidError(f"of {len(statuses)} events, these were not answered with 204: {dict(wrong)}")


def require_enqueued(row_ids: Sequence[int], messages: Counter[int], expected: int) -> None:
    """Require exactly `expected` rows and exactly one message for each row.

    Raises:
        RunInvalidError: there are too few or too many rows or messages.
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
    """Require exactly `expected` rows, each captioned by its first attempt and written back.

    Raises:
        RunInvalidError: the number of other rows, and the first of them.
    """
    if len(rows) != expected:
        raise RunInvalidError(f"there are {len(rows)} rows where {expected} should be")
    wrong = [row for row in rows if not row.captioned_once]
    if wrong:
        raise RunInvalidError(f"{len(wrong)} of {expected} rows were not captioned exactly once, first {wrong[0]}")
