"""Equal errors: the first at once, then their count when the burst has ended."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from dropline.log import configure_logging, get_logger
from dropline.log_bursts import WINDOW_S, BurstHandler, BurstLimiter


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The time of the log."""
    return Clock()


@pytest.fixture
def stream(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log of a process; the log of the tests is back at the end."""
    monkeypatch.setattr("dropline.log.BurstLimiter", lambda: BurstLimiter(WINDOW_S, clock))
    root, stream = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers, root.level
    configure_logging("INFO", "json", "test", stream)
    structlog.contextvars.clear_contextvars()
    yield stream
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    """The lines so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_burst_is_one_line_and_a_count(stream: io.StringIO, clock: Clock) -> None:
    """47 equal errors within the window; the next record of any kind writes the count."""
    log = get_logger("a")
    for number in range(47):
        log.error("event_deferred", error=f"Redis did not take row {number}", bucket="b", row_id=number)
    assert [line["message"] for line in lines(stream)] == ["event_deferred"]
    clock.now = WINDOW_S
    log.info("recovered")
    first, count, other = lines(stream)
    assert "repeated" not in first
    assert (count["message"], count["severity"], count["repeated"]) == ("event_deferred", "ERROR", 46)
    assert other["message"] == "recovered"
    log.error("event_deferred", error="Redis did not take row 1")
    assert "repeated" not in lines(stream)[-1]


def test_a_burst_that_goes_on_is_a_line_per_window(stream: io.StringIO, clock: Clock) -> None:
    """The next line after a window has the count of those before."""
    for second in range(65):
        clock.now = float(second)
        get_logger("a").error("failed")
    assert [line.get("repeated") for line in lines(stream)] == [None, 29, 29]


def test_records_of_other_libraries_are_limited_too(stream: io.StringIO, clock: Clock) -> None:
    """Celery's retries differ in their numbers alone; the traceback is written once."""
    log = logging.getLogger("celery.worker.consumer")
    for seconds in (2.0, 4.0, 6.0):
        log.error("cannot connect: trying again in %.2f seconds", seconds, exc_info=ConnectionError("away"))
    clock.now = WINDOW_S + 1
    logging.getLogger("x").info("y")
    first, count, _ = lines(stream)
    assert first["logger"] == "celery.worker.consumer"
    assert "ConnectionError" in str(first["exception"])
    assert count["repeated"] == 2
    assert "exception" not in count


def test_different_errors_are_lines_of_their_own(stream: io.StringIO) -> None:
    """Another event, field, level, logger or class of exception is another error; a line of INFO is written."""
    one, other = get_logger("one"), get_logger("other")
    one.error("failed", error="x")
    one.error("failed", error="y")
    one.error("died", error="x")
    one.warning("failed", error="x")
    other.error("failed", error="x")
    one.info("done")
    one.info("done")
    assert len(lines(stream)) == 7


def test_a_warning_about_an_object_names_each_object(stream: io.StringIO) -> None:
    """A failed image is not an error of a service."""
    log = get_logger("a")
    for number in range(3):
        log.warning("caption_failed", row_id=number, error="x")
        log.warning("caption_failed", object=f"{'abc'[number]}.jpg", error="x")
    assert len(lines(stream)) == 4


def test_the_end_of_the_process_writes_the_counts(stream: io.StringIO) -> None:
    """A burst just before the end is counted too."""
    for _ in range(3):
        get_logger("a").error("failed")
    (handler,) = (each for each in logging.getLogger().handlers if isinstance(each, BurstHandler))
    handler.close()
    assert lines(stream)[-1]["repeated"] == 2


def test_memory_is_bounded(stream: io.StringIO) -> None:
    """Ten thousand different errors are all written."""
    for number in range(10_000):
        logging.getLogger("a").error("%s", chr(1000 + number))
    assert len(lines(stream)) == 10_000


def test_a_field_is_bounded(stream: io.StringIO) -> None:
    """Cloud Logging refuses long entries."""
    get_logger("a").error("failed", error="x" * 1_000_000)
    assert len(stream.getvalue()) < 25_000
