"""Which rows a recaption takes, and what it changes, on a real Postgres."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, text

from db import attempts, claims, object_rows, reads
from db.caption_filter import CaptionFilter
from db.recaptions import AddTask, Kind, Target
from db.session import Database
from dropline.contract import Claim, ObjectVersion, Status, TaskRequest
from dropline.errors import BrokerUnavailable, ClientError
from operations import recaption as operation
from operations.recaption import BATCH, Request
from tests.support.recaptions import insert_captioned, recaptioner_of, start_worker, to_redo
from tests.support.rows import (
    LEASE_S,
    OTHER_TASK,
    TASK,
    a_caption,
    drop,
    end_waits,
    history_of,
    record,
    redo,
    row_of,
    take,
)


def run(database: Database, request: Request = Request(), **limits: float) -> dict[Kind, int]:  # noqa: B008
    """A pass; the counts of the rows that passed the filter."""
    recaptioner = recaptioner_of(database)
    recaptioner.recaption(recaptioner.work_of(request), **limits)  # type: ignore[arg-type]
    assert len(recaptioner.taken) == len(set(recaptioner.taken))
    return dict(recaptioner.seen)


def plan(database: Database, request: Request = Request()) -> dict[Kind, int]:  # noqa: B008
    """A dry run."""
    recaptioner = recaptioner_of(database)
    return dict(recaptioner.count(recaptioner.work_of(request)))


def test_rows_of_another_model_or_revision_are_taken_once(database: Database, connection: Connection) -> None:
    """Rows of the worker that started last are left; a second run changes nothing."""
    start_worker(connection, "old", "r1")
    start_worker(connection, "new", "r2")
    insert_captioned(connection, 1, 3)
    insert_captioned(connection, 4, 5, "new", "r1")
    insert_captioned(connection, 6, 9, "new", "r2")
    assert plan(database) == {Kind.TAKEN: 5, Kind.CURRENT: 4}
    assert to_redo(connection) == []
    assert run(database) == {Kind.TAKEN: 5, Kind.CURRENT: 4}
    assert to_redo(connection) == [1, 2, 3, 4, 5]
    before = [row_of(connection, row_id) for row_id in range(1, 10)]
    assert run(database) == {Kind.PENDING: 5, Kind.CURRENT: 4}
    assert [row_of(connection, row_id) for row_id in range(1, 10)] == before


def test_a_taken_row_keeps_its_caption_and_is_due_behind_fresh_ones(
    database: Database, connection: Connection
) -> None:
    """Status, caption and attempts stay; the retries of the redo are its own."""
    start_worker(connection)
    insert_captioned(connection, 1, 1)
    connection.execute(text("UPDATE captions SET lost_attempts = 2, slow_attempts = 3, attempts = 4"))
    run(database)
    row = row_of(connection, 1)
    assert (row["status"], row["caption"], row["model"]) == ("captioned", "caption 1", "old")
    assert (row["redo"], row["priority"], row["lease_until"]) == (True, 1, None)
    assert (row["attempts"], row["attempts_before_redrive"], row["lost_attempts"], row["slow_attempts"]) == (
        4,
        4,
        0,
        0,
    )
    fresh = drop(connection, ObjectVersion("drops", "fresh.png", 1))
    assert claims.claim(connection, 1, LEASE_S, "a/1").work.row_id == fresh  # type: ignore[union-attr]
    claimed = take(connection, 1)
    assert record(connection, claimed, "a new caption")
    assert history_of(connection, 1) == ["caption 1"]
    assert row_of(connection, 1)["caption"] == "a new caption"


def test_what_is_left(database: Database, connection: Connection) -> None:
    """Rows without a caption, rows at work, overwritten generations, and rows whose last redo failed."""
    start_worker(connection)
    insert_captioned(connection, 1, 5)
    drop(connection, ObjectVersion("drops", "queued.png", 1))
    drop(connection, ObjectVersion("drops", "0000002.png", 2))
    connection.execute(text("UPDATE captions SET lease_until = now() + interval '1 h' WHERE id = 3"))
    redo(connection, 4)
    assert attempts.fail(connection, _claimed(connection, 4), "decoder_crashed", "words").held
    object_rows.tombstone(connection, ObjectVersion("drops", "0000005.png", 1))
    assert run(database) == {
        Kind.TAKEN: 1,
        Kind.OVERWRITTEN: 1,
        Kind.PENDING: 1,
        Kind.FAILED_BEFORE: 1,
    }
    assert to_redo(connection) == [1]


def _claimed(connection: Connection, row_id: int) -> Claim:
    connection.execute(text("UPDATE captions SET priority = 0 WHERE id = :id"), {"id": row_id})
    connection.execute(text("UPDATE captions SET not_before = now() + interval '1 h' WHERE status = 'queued'"))
    return take(connection, row_id)


def test_captions_of_people_are_left_by_force_too(database: Database, connection: Connection) -> None:
    """And by the redo of a single row."""
    start_worker(connection)
    insert_captioned(connection, 1, 2)
    connection.execute(text("UPDATE captions SET edited_by = 'Ida', edited_at = now() WHERE id = 1"))
    forced = Request(CaptionFilter(bucket="drops"), force=True)
    assert run(database, forced) == {Kind.TAKEN: 1, Kind.EDITED: 1}
    assert to_redo(connection) == [2]
    row = reads.row(connection, 1)
    assert row is not None
    with pytest.raises(ClientError, match="a person's"):
        recaptioner_of(database).redo(row)


def test_a_failed_redo_is_retried_on_request_alone(database: Database, connection: Connection) -> None:
    """So a picture that cannot be captioned costs one inference, however often the command runs."""
    start_worker(connection)
    insert_captioned(connection, 1, 1)
    run(database)
    assert attempts.fail(connection, take(connection, 1), "unsupported_format", "words").held
    row = row_of(connection, 1)
    assert (row["status"], row["caption"], row["redo"]) == ("captioned", "caption 1", False)
    assert row["error_code"] == "unsupported_format"
    assert row["redo_failed_at"] is not None
    assert run(database) == {Kind.FAILED_BEFORE: 1}
    assert to_redo(connection) == []
    assert run(database, Request(retry_failed=True)) == {Kind.TAKEN: 1}
    assert row_of(connection, 1)["redo_failed_at"] is None
    assert to_redo(connection) == [1]


def test_force_takes_rows_of_the_target_and_needs_a_filter(database: Database, connection: Connection) -> None:
    """Captions older than the start of the command: a repetition goes on where the command ended."""
    start_worker(connection, "old", "r1")
    insert_captioned(connection, 1, 4)
    with pytest.raises(ClientError, match="without a filter"):
        Request(force=True)
    forced = Request(CaptionFilter(older_than=datetime.now(UTC)), force=True)
    assert run(database, forced, most=3) == {Kind.TAKEN: 4}
    assert to_redo(connection) == [1, 2, 3]
    for row_id in (1, 2, 3):
        assert record(connection, take(connection, row_id))
    assert run(database, forced) == {Kind.TAKEN: 1}
    assert to_redo(connection) == [4]


def test_the_target_can_be_named(database: Database, connection: Connection) -> None:
    """Without a worker, the target has to be named; without a revision, any of the model is left."""
    insert_captioned(connection, 1, 1, "big", "r1")
    insert_captioned(connection, 2, 2, "big", "r2")
    insert_captioned(connection, 3, 3, "small", "r1")
    with pytest.raises(ClientError, match="no worker has started"):
        plan(database)
    assert plan(database, Request(target_model="big")) == {Kind.TAKEN: 1, Kind.CURRENT: 2}
    assert plan(database, Request(target_model="big", target_revision="r2")) == {Kind.TAKEN: 2, Kind.CURRENT: 1}
    start_worker(connection, "small", "r1")
    assert plan(database) == {Kind.TAKEN: 2, Kind.CURRENT: 1}
    with pytest.raises(ClientError, match="name the target's model"):
        Request(target_revision="r1")
    work = recaptioner_of(database).work_of(Request())
    assert work.target == Target("small", "r1")  # type: ignore[attr-defined]


FILTERS = [
    (CaptionFilter(prefix="000000"), 9),
    (CaptionFilter(prefix="0000001"), 1),
    (CaptionFilter(model="old"), 12),
    (CaptionFilter(revision="r9"), 0),
    (CaptionFilter(bucket="other"), 0),
    (CaptionFilter(task="<OD>"), 0),
    (CaptionFilter(objects=(("drops", "0000003.png", None),)), 1),
    (CaptionFilter(older_than=datetime.now(UTC) - timedelta(days=40)), 0),
]


def test_filters_choose_rows(database: Database, connection: Connection) -> None:
    """The filters are those of `db.caption_filter`."""
    start_worker(connection)
    insert_captioned(connection, 1, 12)
    for row_filter, rows in FILTERS:
        assert plan(database, Request(row_filter)).get(Kind.TAKEN, 0) == rows, row_filter


@pytest.mark.parametrize("status", [each for each in Status if each is not Status.CAPTIONED])
def test_rows_of_another_status_are_not_redone(status: Status) -> None:
    """Failed rows are redriven."""
    with pytest.raises(ClientError, match="redrive" if status is Status.FAILED else "are not captioned again"):
        Request(CaptionFilter(statuses=(status,)))


def test_many_rows_are_taken_in_batches_and_windows(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message and one wake for each batch; each row once, whatever the windows."""
    monkeypatch.setattr(operation, "_FIRST_WINDOW", 700)
    rows = 2 * BATCH + 600
    start_worker(connection)
    insert_captioned(connection, 1, rows)
    messages: list[int] = []
    wakes: list[int] = []
    recaptioner = recaptioner_of(database, messages.append, lambda: wakes.append(1))
    recaptioner.recaption(recaptioner.work_of(Request()))
    assert list(recaptioner.taken) == list(range(1, rows + 1)) == to_redo(connection)
    assert len(messages) == len(wakes) <= 8
    assert messages[0] == 1


def test_a_maximum_and_a_rate_are_kept(database: Database, connection: Connection) -> None:
    """A batch has the rows of a tenth of a second; the pause follows from the clock."""
    start_worker(connection)
    insert_captioned(connection, 1, 100)
    now, pauses = [0.0], []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    recaptioner = recaptioner_of(database)
    recaptioner.clock, recaptioner.sleep = (lambda: now[0]), sleep
    recaptioner.recaption(recaptioner.work_of(Request()), most=60, rate=20)
    assert to_redo(connection) == list(range(1, 61))
    assert pauses == [pytest.approx(0.1)] * 29


def test_a_pass_that_ends_early_is_finished_by_the_next(database: Database, connection: Connection) -> None:
    """The queue fails after the first batch; its rows are due, and the repetition takes the others alone."""
    start_worker(connection)
    insert_captioned(connection, 1, BATCH + 5)

    def away(_row_id: int) -> None:
        raise BrokerUnavailable("no Redis")

    broken = recaptioner_of(database, away)
    with pytest.raises(BrokerUnavailable, match=f"{BATCH} rows are due"):
        broken.recaption(broken.work_of(Request()))
    assert len(to_redo(connection)) == BATCH
    assert run(database) == {Kind.TAKEN: 5, Kind.PENDING: BATCH}
    messages: list[int] = []
    last = recaptioner_of(database, messages.append)
    last.recaption(last.work_of(Request()))
    assert len(messages) == 1, "due rows of the first pass wake the workers"


def test_rows_of_a_further_task_are_added_once(database: Database, connection: Connection) -> None:
    """Of priority 1, and without a write-back; objects that have the task, or are gone, are left."""
    insert_captioned(connection, 1, 4)
    drop(connection, ObjectVersion("drops", "0000002.png", 1), OTHER_TASK)
    drop(connection, ObjectVersion("drops", "0000003.png", 2))
    object_rows.tombstone(connection, ObjectVersion("drops", "0000004.png", 1))
    connection.execute(text("UPDATE captions SET size_bytes = 77, md5_hash = 'abc' WHERE id = 1"))
    request = Request(CaptionFilter(bucket="drops", task="<CAPTION>"), OTHER_TASK)
    assert plan(database, request) == {Kind.TAKEN: 1, Kind.EXISTING: 1, Kind.OVERWRITTEN: 1}
    assert run(database, request) == {Kind.TAKEN: 1, Kind.EXISTING: 1, Kind.OVERWRITTEN: 1}
    added = connection.execute(
        text("SELECT * FROM captions WHERE task = :task AND object_name = '0000001.png'"),
        {"task": str(OTHER_TASK)},
    ).mappings()
    (row,) = added
    assert (row["status"], row["priority"], row["write_back"]) == ("queued", 1, False)
    assert (row["size_bytes"], row["md5_hash"], row["generation"]) == (77, "abc", 1)
    assert run(database, request) == {Kind.EXISTING: 2, Kind.OVERWRITTEN: 1}
    # A later row has the usual priority.
    assert row_of(connection, drop(connection, ObjectVersion("drops", "new.png", 1)))["priority"] == 0


def test_a_dry_run_counts_an_object_of_several_rows_once(database: Database, connection: Connection) -> None:
    """As the run does; of the rows that pass the filter, in whatever window each one is."""
    insert_captioned(connection, 1, 3)
    for number in (2, 3):
        row_id = drop(connection, ObjectVersion("drops", f"000000{number}.png", 1), OTHER_TASK)
        assert record(connection, take(connection, row_id))
    third = TaskRequest.parse("<OCR>")
    for row_filter, objects in ((CaptionFilter(), 3), (CaptionFilter(model="demo"), 2)):
        assert plan(database, Request(row_filter, third))[Kind.TAKEN] == objects
        work = AddTask(row_filter, third, counts_objects=True)
        numbers = [work.count(connection, after, after + 1)[Kind.TAKEN] for after in range(5)]
        assert sum(numbers) == objects
    recaptioner = recaptioner_of(database)
    recaptioner.recaption(recaptioner.work_of(Request(CaptionFilter(), third)))
    assert len(recaptioner.taken) == 3


def test_a_further_task_is_added_for_rows_of_other_statuses_too(
    database: Database, connection: Connection
) -> None:
    """Two rows of one object version give one row; those of gone objects are refused."""
    version = ObjectVersion("drops", "a.png", 1)
    drop(connection, version)
    drop(connection, version, replace(TASK, prompt=type(TASK.prompt).OD))
    request = Request(CaptionFilter(statuses=(Status.QUEUED,)), OTHER_TASK)
    recaptioner = recaptioner_of(database)
    recaptioner.recaption(recaptioner.work_of(request))
    assert len(recaptioner.taken) == 1
    for status in (Status.SUPERSEDED, Status.DELETED):
        with pytest.raises(ClientError, match="gone"):
            Request(CaptionFilter(statuses=(status,)), OTHER_TASK)
    with pytest.raises(ClientError, match="replaces no caption"):
        Request(CaptionFilter(), OTHER_TASK, force=True)


def test_steps_of_a_request_cover_the_table(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step ends after a window; together they are one pass."""
    monkeypatch.setattr(operation, "_WINDOW_OF_A_STEP", 200)
    monkeypatch.setattr(operation, "_FIRST_WINDOW", 200)
    start_worker(connection)
    insert_captioned(connection, 1, 1300)
    insert_captioned(connection, 1301, 1310, "new", "r2")
    after: int | None = 0
    taken, current, steps = 0, 0, 0
    while after is not None:
        recaptioner = recaptioner_of(database)
        step = recaptioner.step(recaptioner.work_of(Request()), after, None, 60.0)
        taken, current, after, steps = (
            taken + step.taken,
            current + step.left[Kind.CURRENT],
            step.read_to,
            steps + 1,
        )
    assert (taken, current, steps) == (1300, 10, 3)
    assert len(to_redo(connection)) == 1300


def test_an_object_that_was_deleted_meanwhile_ends(database: Database, connection: Connection) -> None:
    """No worker attempts it, and its history goes with an erasure."""
    start_worker(connection)
    insert_captioned(connection, 1, 1)
    run(database)
    object_rows.tombstone(connection, ObjectVersion("drops", "0000001.png", 1))
    end_waits(connection)
    assert claims.claim(connection, 1, LEASE_S, "a/1").work is None
    assert a_caption().model == "demo"
