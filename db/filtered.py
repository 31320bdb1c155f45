"""Events of filtered objects: counted by day, bucket and rule, and notified to listeners.

Each delivery of an event counts. Object names are in the notification alone, and are not stored.
"""

import json
import random
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from db.session import Connection
from dropline.contract import FILTERED_CHANNEL, FilteredNotice, FilterReason, ObjectVersion

#: Rows of a count, so that simultaneous events of a rule seldom wait for the same row.
SLOTS = 8

# A commit holds the row, and the lock under which Postgres commits notifications, until the disk answers. Accepted
# events wait for the same lock: with 5 ms per write, 160 events a second instead of 1,900. A crash of Postgres may
# lose the counts of the last second.
_COUNT = text("""
    WITH counted AS (
        INSERT INTO filtered_events AS known (day, bucket, reason, setting, slot, events, last_at)
        VALUES ((now() AT TIME ZONE 'UTC')::date, :bucket, :reason, :setting, :slot, 1, now())
        ON CONFLICT (day, bucket, reason, setting, slot)
        DO UPDATE SET events = known.events + 1, last_at = greatest(known.last_at, excluded.last_at)
        RETURNING slot)
    SELECT pg_notify(:channel, :notice), set_config('synchronous_commit', 'off', true) FROM counted
""")
_SUMS = text("""
    SELECT reason, setting, sum(events) FILTER (WHERE day = (now() AT TIME ZONE 'UTC')::date) AS today,
           sum(events) AS last_7_days, max(last_at) AS last_at
    FROM filtered_events WHERE day > (now() AT TIME ZONE 'UTC')::date - 7
    GROUP BY reason, setting ORDER BY last_7_days DESC, reason, setting
""")
_COUNTED_SINCE = text("""
    SELECT EXISTS (SELECT FROM filtered_events
                   WHERE day >= (CAST(:since AS timestamptz) AT TIME ZONE 'UTC')::date
                     AND bucket = :bucket AND reason = :reason AND last_at >= :since)
""")


@dataclass(frozen=True, slots=True)
class FilteredSum:
    """Events of filtered objects by rule, over all buckets."""

    reason: str
    setting: str
    #: Since midnight UTC.
    today: int
    #: Today and the six days before.
    last_7_days: int
    last_at: datetime

    def document(self) -> dict[str, Any]:
        """The fields by name."""
        return {
            "reason": self.reason,
            "setting": self.setting,
            "today": self.today,
            "last_7_days": self.last_7_days,
            "last_at": self.last_at,
        }


def count(connection: Connection, version: ObjectVersion, reason: FilterReason) -> None:
    """Count an event of a filtered object; the transaction's commit notifies `FILTERED_CHANNEL`."""
    connection.execute(
        _COUNT,
        {
            "bucket": version.bucket,
            "reason": reason.value,
            "setting": reason.setting,
            "slot": random.randrange(SLOTS),  # noqa: S311 - spreads load
            "channel": FILTERED_CHANNEL,
            "notice": _payload(version, reason),
        },
    )


def sums(connection: Connection) -> list[FilteredSum]:
    """Events of the last seven days by rule, the most frequent first."""
    return [
        FilteredSum(row.reason, row.setting, int(row.today or 0), int(row.last_7_days), row.last_at)
        for row in connection.execute(_SUMS)
    ]


def was_counted(connection: Connection, bucket: str, reason: FilterReason, since: datetime) -> bool:
    """True if an event of the bucket was filtered by the rule since then; object names are not stored."""
    values = {"bucket": bucket, "reason": reason.value, "since": since}
    return bool(connection.execute(_COUNTED_SINCE, values).scalar_one())


def parse_filtered(payload: str) -> FilteredNotice:
    """The filtered object version of a notification's JSON payload.

    Raises:
        ValueError: the payload is another sender's.
    """
    try:
        fields = json.loads(payload)
        version = ObjectVersion(str(fields["bucket"]), str(fields["object_name"]), int(fields["generation"]))
        return FilteredNotice(version, str(fields["reason"]), str(fields["setting"]))
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a filtered object: {payload[:100]!r}") from error


def _payload(version: ObjectVersion, reason: FilterReason) -> str:
    """At most 6 characters per byte of the name: below Postgres' limit of 8,000."""
    return json.dumps(
        {
            "bucket": version.bucket,
            "object_name": version.name,
            "generation": version.generation,
            "reason": reason.value,
            "setting": reason.setting,
        }
    )
