"""Redrives without services: times, batches, and retries of the wake-up."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from cli.redrive import parse_since
from dropline.errors import ClientError
from dropline.scaling.errors import PoolChanging, ScalingDenied
from operations.due_work import wake_with_retries

NOW = datetime(2026, 11, 22, 16, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30s", NOW - timedelta(seconds=30)),
        ("90m", NOW - timedelta(minutes=90)),
        ("2h", NOW - timedelta(hours=2)),
        ("9999d", NOW - timedelta(days=9999)),
        ("2026-11-22T14:00Z", datetime(2026, 11, 22, 14, tzinfo=UTC)),
        ("2026-11-22T14:00:01.5", datetime(2026, 11, 22, 14, 0, 1, 500_000, tzinfo=UTC)),
        ("2026-11-22", datetime(2026, 11, 22, tzinfo=UTC)),
        ("2026-11-22T14:00+01:00", datetime(2026, 11, 22, 14, tzinfo=timezone(timedelta(hours=1)))),
    ],
)
def test_a_time_is_an_age_or_iso_8601(text: str, moment: datetime) -> None:
    """A time is an age or ISO 8601, in UTC without a zone, as in logs."""
    assert parse_since(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["yesterday", "2", "h", "2w", "-2h", "2.5h", "2 h", "99999d", "2026-13-01", "14:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    """The error shows the accepted forms."""
    with pytest.raises(ClientError, match="write 90m, 2h, 7d"):
        parse_since(text, NOW)


def test_a_time_to_come_is_refused() -> None:
    """No row can have failed since a future time."""
    with pytest.raises(ClientError, match="in the future"):
        parse_since("2026-11-22T16:01Z", NOW)


class Patience:
    """A clock advanced by `sleep`, and a worker pool that wakes after some failures."""

    def __init__(self, failures: int) -> None:
        self.now = 0.0
        self.failures = failures
        self.calls: list[float] = []
        self.notes: list[str] = []

    def wake(self) -> None:
        self.calls.append(self.now)
        if len(self.calls) <= self.failures:
            raise PoolChanging("falling asleep")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, patience_s: float) -> None:
        wake_with_retries(self.wake, patience_s, self.notes.append, sleep=self.sleep, clock=lambda: self.now)


def test_a_pool_that_is_awake_costs_no_wait() -> None:
    """An awake worker pool costs a single call, without a pause or a note."""
    patience = Patience(failures=0)
    patience.wait(60)
    assert (patience.calls, patience.notes) == ([0.0], [])


def test_a_pool_is_woken_as_soon_as_it_may_be() -> None:
    """Each pause is twice the pause before, up to a limit, and is reported with the reason."""
    patience = Patience(failures=6)
    patience.wait(120)
    assert patience.calls == [0, 1, 3, 7, 15, 30, 45]
    assert patience.notes[0] == "falling asleep; trying again in 1 s"


def test_patience_ends() -> None:
    """The last error is raised, and no pause ends after the time limit."""
    patience = Patience(failures=1000)
    with pytest.raises(PoolChanging):
        patience.wait(60)
    assert patience.now <= 60


def test_what_no_patience_helps_with_is_raised_at_once() -> None:
    """Waiting does not grant a missing right."""

    def denied() -> None:
        raise ScalingDenied("no right")

    with pytest.raises(ScalingDenied):
        wake_with_retries(denied, 60, pytest.fail, sleep=lambda _seconds: pytest.fail("waited"))
