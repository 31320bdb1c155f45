"""The parts of a worker's start, from made-up lines of its log."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from benchmarks.checks import RowTimes, RunInvalidError
from benchmarks.start_times import StartTimes, start_times

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
#: Seconds after the start of the process.
MARKS = {"engine_loading": 1.0, "engine_imported": 4.0, "engine_loaded": 4.5, "engine_ready": 6.0}


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def line(message: str, seconds: float) -> str:
    return json.dumps({"message": message, "time": at(seconds).isoformat().replace("+00:00", "Z")})


def row(started_s: float, captioned_s: float) -> RowTimes:
    return RowTimes(1, "captioned", 1, NOON, at(started_s), at(captioned_s), at(captioned_s + 1))


LINES = ["a traceback", line("engine_ready", -5), *(line(name, seconds) for name, seconds in MARKS.items())]
#: The second row was claimed later and captioned first.
ROWS = [row(7.5, 9.0), row(7.75, 8.5)]


def test_the_parts_add_up_to_the_first_caption() -> None:
    """Lines of an earlier start and of other programs do not count, nor does a second start of the engine."""
    found = start_times(NOON, [*LINES, line("engine_loading", 20)], ROWS)
    assert found == StartTimes(
        worker_s=1.0, imports_s=3.0, load_s=0.5, warm_up_s=1.5, claim_s=1.5, first_image_s=1.0
    )
    assert found.total_s == 8.5
    values = [figure.value for figure in found.figures()]
    assert values == ["**8.50 s**", "1.00 s", "3.00 s", "0.500 s", "1.50 s", "1.50 s", "1.00 s"]


@pytest.mark.parametrize("name", MARKS)
def test_a_missing_line_makes_the_run_invalid(name: str) -> None:
    """The error names the line."""
    with pytest.raises(RunInvalidError, match=name):
        start_times(NOON, [each for each in LINES if name not in each], ROWS)


def test_without_a_caption_there_is_no_start() -> None:
    """A worker without rows."""
    with pytest.raises(RunInvalidError, match="no row was captioned"):
        start_times(NOON, LINES, [])
