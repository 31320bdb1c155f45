"""The figures of a drop of many objects, from made-up rows."""

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.checks import RowTimes, RunInvalidError
from benchmarks.drop_at_once import drop_result

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def row(queued_s: float, captioned_s: float | None) -> RowTimes:
    at = None if captioned_s is None else NOON + timedelta(seconds=captioned_s)
    return RowTimes(1, "captioned", 1, NOON + timedelta(seconds=queued_s), at, at, at)


def test_captions_are_counted_before_and_after_the_last_row() -> None:
    """Rows in any order; the pauses are those between neighbours."""
    rows = [row(0, 1), row(4, 10), row(1, 2.5), row(3, 3.5)]
    found = drop_result(rows, 2, {"worker": 1.0})
    assert (found.intake_s, found.captions_meanwhile, found.captions_after, found.rest_s) == (4, 3, 1, 6)
    assert (found.longest_pause_of_rows_s, found.longest_pause_of_captions_s) == (2, 6.5)
    assert [figure.value for figure in found.figures()][2:5] == ["**1.00**", "0.750", "0.167"]


def test_a_row_without_a_caption_makes_the_run_invalid() -> None:
    """The error counts them."""
    with pytest.raises(RunInvalidError, match="1 of 2"):
        drop_result([row(0, 1), row(1, None)], 2, {})
