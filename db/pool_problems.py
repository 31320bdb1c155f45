"""Why a worker pool has no worker, in the table `pool_problems`: one row per worker pool, until a worker is ready.

Each function takes a connection in a transaction of the caller.
`docs/decisions/0023-a-pool-that-cannot-start.md` has the reasons.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from db.session import Connection

#: A check that is this late is lost, and the next one takes its place.
_LATE = timedelta(minutes=10)
_ABOUT_GPUS = re.compile(r"(?i)\bgpus?\b|accelerator|nvidia|quota|capacity|exhausted|\bcode 8\b")


@dataclass(frozen=True, slots=True)
class PoolProblem:
    """A row; `db.models.PoolProblemRow` describes each column."""

    pool: str
    since: datetime
    reason: str
    checks: int
    next_check_at: datetime | None
    failed_starts: int
    fingerprint: str
    is_permanent: bool
    held_at: datetime | None

    def is_turn_of(self, number: int, now: datetime | None = None) -> bool:
        """False for a check that repeats an earlier one, or runs beside the checks that are arranged already."""
        if number == self.checks or self.next_check_at is None:
            return True
        return (now or datetime.now(UTC)) > self.next_check_at + _LATE

    def document(self) -> dict[str, Any]:
        """The fields that people read, by name, and the words."""
        return {
            "pool": self.pool,
            "since": self.since,
            "reason": self.reason,
            "held_at": self.held_at,
            "next_check_at": self.next_check_at,
            "failed_starts": self.failed_starts,
            "lacks": "GPU" if self.held_at is None and _ABOUT_GPUS.search(self.reason) else "worker",
        }


_RECORD_START = text("""
    INSERT INTO pool_problems AS p (pool, reason, failed_starts, fingerprint, is_permanent)
    VALUES (:pool, :reason, 1, :fingerprint, :is_permanent)
    ON CONFLICT (pool) DO UPDATE SET
        failed_starts = CASE WHEN p.fingerprint = EXCLUDED.fingerprint THEN p.failed_starts + 1 ELSE 1 END,
        reason = EXCLUDED.reason, fingerprint = EXCLUDED.fingerprint, is_permanent = EXCLUDED.is_permanent
    RETURNING failed_starts
""")
# Of two checks with the same number, the second finds another number.
_RECORD_CHECK = text("""
    INSERT INTO pool_problems AS p (pool, reason, checks, next_check_at)
    VALUES (:pool, :reason, :checks, now() + make_interval(secs => :next_in_s))
    ON CONFLICT (pool) DO UPDATE SET checks = EXCLUDED.checks, next_check_at = EXCLUDED.next_check_at,
        reason = CASE WHEN p.held_at IS NULL THEN EXCLUDED.reason ELSE p.reason END
""")
_HOLD = text("UPDATE pool_problems SET held_at = COALESCE(held_at, now()) WHERE pool = :pool")
_END_CHECKS = text("UPDATE pool_problems SET next_check_at = NULL WHERE pool = :pool")
_COLUMNS = "pool, since, reason, checks, next_check_at, failed_starts, fingerprint, is_permanent, held_at"
_FIND = text(f"SELECT {_COLUMNS} FROM pool_problems ORDER BY since, pool")  # noqa: S608 - a constant
_CLEAR = text("DELETE FROM pool_problems WHERE pool = :pool")


def record_failed_start(
    connection: Connection, pool: str, fingerprint: str, reason: str, *, is_permanent: bool
) -> int:
    """Count a start that failed; the number of them in a row with this fingerprint of the worker pool.

    Args:
        connection: in a transaction.
        pool: full name of the worker pool.
        fingerprint: of its image and settings.
        reason: one sentence for people.
        is_permanent: only another image or other settings can help.
    """
    values = {"pool": pool, "fingerprint": fingerprint, "reason": reason, "is_permanent": is_permanent}
    found: int = connection.execute(_RECORD_START, values).scalar_one()
    return found


def record_held(connection: Connection, pool: str) -> None:
    """The worker pool is at 0 instances until something changes."""
    connection.execute(_HOLD, {"pool": pool})


def record_check(connection: Connection, pool: str, number: int, reason: str, next_in_s: float) -> None:
    """Record that check `number` found no worker, why, and the time of the next check. A hold keeps its reason."""
    values = {"pool": pool, "checks": number + 1, "reason": reason, "next_in_s": next_in_s}
    connection.execute(_RECORD_CHECK, values)


def end_checks(connection: Connection, pool: str) -> None:
    """No check follows until the next event; the problem stays."""
    connection.execute(_END_CHECKS, {"pool": pool})


def clear(connection: Connection, pool: str) -> None:
    """Remove the problem: a worker is ready, or a person has the worker pool tried again."""
    connection.execute(_CLEAR, {"pool": pool})


def find(connection: Connection, pool: str) -> PoolProblem | None:
    """The problem of a worker pool, or None."""
    return next((each for each in find_all(connection) if each.pool == pool), None)


def find_all(connection: Connection) -> list[PoolProblem]:
    """The problems of all worker pools, the oldest first."""
    return [PoolProblem(**row) for row in connection.execute(_FIND).mappings()]
