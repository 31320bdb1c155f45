"""The line of numbers above the list. Pure."""

from dataclasses import dataclass
from datetime import datetime

from db.reads import MOST_COUNTED
from db.search import Traffic
from gallery.words import duration_words


@dataclass(frozen=True, slots=True)
class Strip:
    """The line above the grid."""

    per_minute: int
    waiting: int
    #: Milliseconds since 1970, for the script; empty if no row is queued.
    oldest_at: str
    oldest_age: str
    failed: int
    #: Counting of waiting and of failed rows ends here.
    most: int = MOST_COUNTED


def strip_of(traffic: Traffic, now: datetime) -> Strip:
    """The numbers of the strip."""
    oldest = traffic.oldest_queued_at
    return Strip(
        per_minute=traffic.captioned,
        waiting=traffic.waiting,
        oldest_at=str(round(oldest.timestamp() * 1000)) if oldest else "",
        oldest_age=duration_words(now - oldest) if oldest else "",
        failed=traffic.failed,
    )
