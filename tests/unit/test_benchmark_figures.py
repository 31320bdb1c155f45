"""The computations and the output of the benchmarks, without measuring."""

import base64
import io
import json
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks import event_path
from benchmarks.checks import RowTimes, RunInvalidError, require_captioned_once, require_enqueued, require_statuses
from benchmarks.cpu import (
    Contention,
    CpuReading,
    MachineTimes,
    ProcessSnapshot,
    ProcessTimes,
    contention_between,
    cpu_ms_each,
    parse_machine_times,
    parse_stat,
)
from benchmarks.event_path import Part, PartRun, as_document, as_report
from benchmarks.figures import Figure, Spread, percentile, section, shown, shown_spread
from benchmarks.function_rate import PushResponse, PushRun, finalize_envelope
from benchmarks.provenance import EVENT_PATH_PACKAGES, Provenance, cpu_model_in
from benchmarks.stack import row_id_in
from benchmarks.uploads import photographs, small_images
from benchmarks.worker_rate import seconds_at_work
from dropline.contract import ObjectVersion
from tests.support.processes import linux_only
from trigger_fn.events import EventKind, ObjectEvent, parse_event

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROW = RowTimes(
    id=1,
    status="captioned",
    attempts=1,
    queued_at=NOON,
    started_at=NOON + timedelta(seconds=1),
    captioned_at=NOON + timedelta(seconds=2),
    metadata_written_at=NOON + timedelta(seconds=3),
)
PROVENANCE = Provenance(
    command="python -m benchmarks.event_path",
    date="2026-01-01T12:00:00+00:00",
    cpu="Some | CPU",
    cores=2,
    load_average=(0.5, 0.25, 0.125),
    system="Linux",
    python="CPython 3.11.7",
    revision="abc",
    packages={"celery": "5.7.0"},
)
QUIET = Contention(seconds=10.0, others_cores=0.25, stolen_cores=0.0)


@dataclass(frozen=True)
class Result:
    """A part's result."""

    title = "A part"
    rate: float

    def figures(self) -> list[Figure]:
        return [Figure("rate", f"{shown(self.rate)} per second")]


@pytest.mark.parametrize(
    ("percent", "value"), [(0, 1), (10, 1), (11, 2), (50, 5), (90, 9), (91, 10), (99, 10), (100, 10)]
)
def test_a_percentile_is_the_nearest_rank(percent: float, value: float) -> None:
    """Of ten values, the percentile is the first with at least that share at or below."""
    assert percentile(range(1, 11), percent) == value


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1), st.integers(0, 100))
def test_a_percentile_is_a_measured_value_and_covers_its_share(values: list[float], percent: int) -> None:
    """The percentile is one of the values, and at least that share is not above."""
    found = percentile(sorted(values), percent)
    assert found in values
    assert sum(value <= found for value in values) * 100 >= percent * len(values)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_a_percentile_without_values_is_an_error(values: list[float], percent: float) -> None:
    """No values, or a number outside of 0 to 100, are an error."""
    with pytest.raises(ValueError, match="no percentile"):
        percentile(values, percent)


def test_a_spread_does_not_depend_on_the_order() -> None:
    """Unsorted values are allowed."""
    assert Spread.of([3, 1, 2]) == Spread(count=3, minimum=1, p50=2, p90=3, maximum=3)


def test_a_p90_is_shown_of_ten_values_and_more() -> None:
    """Fewer than ten values show no p90, because the p90 would equal the maximum."""
    assert shown_spread(Spread.of(range(9)), "ms") == "p50 4.00, max 8.00, min 0 ms"
    assert shown_spread(Spread.of(range(10)), "ms") == "p50 4.00, p90 8.00, max 9.00, min 0 ms"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.2345, "1.23"),
        (-12.345, "-12.3"),
        (123.45, "123"),
        (12345.6, "12,346"),
        (float("inf"), "inf"),
    ],
)
def test_figures_have_three_significant_digits(value: float, text: str) -> None:
    """All digits before the point are kept."""
    assert shown(value) == text


def test_a_section_is_a_table_in_markdown() -> None:
    """A section has a heading, the head of a table and a row per figure."""
    assert section("A part", Result(12.3456).figures()) == [
        "## A part",
        "",
        "| figure | value |",
        "|---|---|",
        "| rate | 12.3 per second |",
        "",
    ]


def test_a_report_begins_with_the_provenance() -> None:
    """The report has command, date, CPU, load, versions and revision; a pipe is escaped."""
    lines = list(as_report(PROVENANCE, {Part.IMPORT: PartRun(Result(1.0), QUIET)}))
    text = "\n".join(lines)
    assert lines[0] == "## Where the figures come from"
    assert text.index("| revision | abc |") < text.index("## A part")
    assert "| CPU | Some \\| CPU, 2 cores |" in text
    assert "| load average before the run | 0.50 0.25 0.12 |" in text
    assert "celery 5.7.0" in text
    assert lines[-2] == "| meanwhile, other processes | 0.25 cores; 0.00 more taken by the host |"


def test_the_document_has_every_number_unrounded() -> None:
    """JSON is for programs, so numbers are not rounded."""
    document = json.loads(as_document(PROVENANCE, {Part.FUNCTION: PartRun(Result(12.3456), QUIET)}))
    assert document["provenance"]["load_average"] == [0.5, 0.25, 0.125]
    assert document["parts"].keys() == {"function"}
    assert document["parts"]["function"]["result"] == {"rate": 12.3456}
    assert document["parts"]["function"]["contention"]["others_cores"] == 0.25


@linux_only
def test_an_invalid_run_prints_no_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The reason is on standard error, the exit status is 1, and valid parts are not printed either."""

    def fail() -> Result:
        raise RunInvalidError("one row is missing")

    monkeypatch.setattr(event_path, "measure_import", fail)
    monkeypatch.setattr(event_path, "measure_function", Result)
    with pytest.raises(typer.Exit) as ended:
        event_path.main(only=[Part.FUNCTION, Part.IMPORT])
    output = capsys.readouterr()
    assert ended.value.exit_code == 1
    assert output.out == ""
    assert "The run is not valid: one row is missing" in output.err


@linux_only
def test_only_the_chosen_parts_are_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `--only`, only the chosen part runs, with the given number of events."""
    monkeypatch.setattr(event_path, "measure_function", Result)
    event_path.main(events=7, only=[Part.FUNCTION], as_json=True)
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert {part: each["result"] for part, each in parts.items()} == {"function": {"rate": 7}}


def test_provenance_names_this_machine_and_the_packages() -> None:
    """The provenance has the command quoted for a shell, the CPU cores, and the versions of the packages."""
    found = Provenance.gather("benchmarks.event_path", ["--only", "a b"], EVENT_PATH_PACKAGES)
    assert found.command == "python -m benchmarks.event_path --only 'a b'"
    assert found.cores >= 1
    assert {"celery", "psycopg", "google-cloud-storage"} <= found.packages.keys()


def test_the_cpu_is_named_if_the_system_has_its_name() -> None:
    """The name of the first CPU, or None."""
    assert cpu_model_in("processor\t: 0\nmodel name\t: Fast: 9000\n\nmodel name\t: b\n") == "Fast: 9000"
    assert cpu_model_in("processor\t: 0\n") is None


def test_a_process_may_have_any_name() -> None:
    """Parentheses and spaces in the name of a process do not move the columns."""
    line = "42 (a) b (c) S 7 42 42 0 -1 4194304 100 200 0 0 11 22 33 44 20 0 1 0 280542 3133440 392 0\n"
    assert parse_stat(line) == ProcessTimes(pid=42, parent=7, ticks=110)


def test_a_tree_is_the_root_and_all_below_it() -> None:
    """Grandchildren count, in any order; the parent and unrelated processes do not."""
    snapshot = ProcessSnapshot(
        (
            ProcessTimes(30, 20, 400),
            ProcessTimes(20, 10, 200),
            ProcessTimes(10, 1, 100),
            ProcessTimes(1, 0, 10_000),
            ProcessTimes(11, 1, 100_000),
        ),
        ticks_per_second=100,
    )
    assert snapshot.tree_s(10) == 7.0
    assert snapshot.alone_s(10) == 1.0


def test_an_ended_process_ends_the_run() -> None:
    """The end of a process is an error: the CPU time is unknown, and not zero."""
    with pytest.raises(RunInvalidError, match="process 5 ended"):
        ProcessSnapshot((ProcessTimes(1, 0, 1),), 100).tree_s(5)


def test_cpu_is_divided_by_the_number_of_events() -> None:
    """Seconds between two readings become milliseconds per event or image."""
    assert cpu_ms_each({"a": 1.0, "b": 5.0}, {"a": 3.0, "b": 5.0}, 1000) == {"a": 2.0, "b": 0.0}


def test_the_machine_is_busy_with_user_and_system_time() -> None:
    """Interrupts count; waiting for a disk does not; guests count once; the time of the host is separate."""
    text = "cpu  100 20 30 4000 500 6 7 800 90 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
    assert parse_machine_times(text, 100) == MachineTimes(busy=1.63, stolen=8.0)


def test_the_other_load_is_the_busy_time_without_the_benchmark() -> None:
    """The other load is the busy time of the machine minus the time of the benchmark, per second."""
    before = CpuReading(10.0, MachineTimes(busy=100.0, stolen=1.0), own=5.0)
    after = CpuReading(14.0, MachineTimes(busy=107.0, stolen=2.0), own=11.0)
    assert contention_between(before, after) == Contention(seconds=4.0, others_cores=0.25, stolen_cores=0.25)


def test_the_time_of_all_posts_is_from_the_first_to_the_last() -> None:
    """The times of the threads are not added, because threads overlap."""
    assert PushRun([PushResponse(204, 10.0, 12.0), PushResponse(204, 9.0, 11.0)], cpu_s=0.1).seconds == 3.0


def test_envelopes_are_distinct_objects_to_the_function() -> None:
    """The function's parser finds a new object in each envelope, with the facts of the resource."""
    events = [parse_event({"content-type": "application/json"}, finalize_envelope("drops", n)) for n in range(3)]
    assert [event.version for event in events if isinstance(event, ObjectEvent)] == [
        ObjectVersion("drops", f"events/{n:06}.jpg", 1_700_000_000_000_000 + n) for n in range(3)
    ]
    for event in events:
        assert isinstance(event, ObjectEvent)
        assert event.kind is EventKind.FINALIZED
        assert event.facts.size_bytes == 51200
        assert event.facts.content_type == "image/jpeg"


def test_images_are_distinct_and_can_be_decoded() -> None:
    """Every image has unique bytes, of other prefixes too, a unique name and the documented size."""
    small, large = [*small_images(300), *small_images(3, "other")], list(photographs(2))
    for images, size in ((small, (64, 48)), (large, (1600, 1200))):
        assert len({image.data for image in images}) == len({image.name for image in images})
        assert len({image.name for image in images}) == len(images)
        with Image.open(io.BytesIO(images[-1].data)) as decoded:
            decoded.load()
            assert decoded.size == size


def test_a_message_has_its_row_id() -> None:
    """The row id is read from a message in Celery's form."""
    body = base64.b64encode(json.dumps([[17], {}, {}]).encode()).decode()
    assert row_id_in(json.dumps({"body": body, "headers": {}})) == 17


@pytest.mark.parametrize("message", ["", "{}", '{"body": "W10="}', '{"body": 1}'])
def test_a_message_without_a_row_ends_the_run(message: str) -> None:
    """An unknown message is an error, and not ignored."""
    with pytest.raises(RunInvalidError, match="names no row"):
        row_id_in(message)


def test_a_complete_run_is_valid() -> None:
    """Expected rows, messages and responses raise no error."""
    require_statuses([204, 204])
    require_enqueued([1, 2], Counter([2, 1]), 2)
    require_captioned_once([ROW, replace(ROW, id=2)], 2)


def test_a_rejected_event_ends_the_run() -> None:
    """A single other status is an error, with the number of responses."""
    with pytest.raises(RunInvalidError, match=r"\{503: 1\}"):
        require_statuses([204, 503])


@pytest.mark.parametrize(
    ("row_ids", "messages", "problem"),
    [
        ([1], [1], "1 rows where 2 should be"),
        ([1, 2], [1], "1 have no message"),
        ([1, 2], [1, 2, 2], "1 messages are too many"),
        ([1, 2], [1, 3], "1 have no message on Redis, and 1 messages are too many"),
    ],
)
def test_lost_and_surplus_messages_end_the_run(row_ids: list[int], messages: list[int], problem: str) -> None:
    """A row without a message, or with a second message, is an error: the rate would be invalid."""
    with pytest.raises(RunInvalidError, match=problem):
        require_enqueued(row_ids, Counter(messages), 2)


@pytest.mark.parametrize(
    "row",
    [
        replace(ROW, status="failed"),
        replace(ROW, attempts=2),
        replace(ROW, captioned_at=None),
        replace(ROW, metadata_written_at=None),
    ],
)
def test_a_row_that_was_not_captioned_once_ends_the_run(row: RowTimes) -> None:
    """A second attempt, a failure or missing metadata make the figures invalid."""
    with pytest.raises(RunInvalidError, match="1 of 2 rows were not captioned exactly once"):
        require_captioned_once([ROW, row], 2)


def test_a_missing_row_ends_the_run() -> None:
    """A wrong number of rows is an error."""
    with pytest.raises(RunInvalidError, match="1 rows where 2 should be"):
        require_captioned_once([ROW], 2)


def test_the_time_at_work_is_from_the_first_claim_to_the_last_metadata() -> None:
    """The wait on the queue and the order of the rows do not count."""
    late = replace(ROW, started_at=NOON + timedelta(seconds=4), metadata_written_at=NOON + timedelta(seconds=9))
    assert seconds_at_work([late, ROW]) == 8.0


def test_rows_that_were_not_written_have_no_time_at_work() -> None:
    """Without the end of a row the rate is unknown."""
    with pytest.raises(RunInvalidError, match="there is no rate"):
        seconds_at_work([replace(ROW, metadata_written_at=None)])
