"""Changes of rows by events: registration, tombstones and names, on a real Postgres."""

import pytest
from sqlalchemy import Connection, text

from benchmarks.query_plans import nested_plans_of
from db import attempts, claims, object_rows
from db.listen import listening
from dropline.contract import Claim, ObjectFacts, ObjectVersion, Status, TaskPrompt, TaskRequest, WriteBack
from tests.support.rows import (
    CHILD,
    G1,
    G2,
    G3,
    IMAGE,
    LEASE_S,
    OTHER_TASK,
    TASK,
    a_caption,
    drop,
    end_waits,
    record,
    row_of,
    settings_of,
    status_of,
    take,
)


def test_an_event_inserts_a_queued_row_with_its_facts(connection: Connection) -> None:
    """Facts of the event are in their columns; no attempt is counted."""
    facts = ObjectFacts(content_type="image/png", size_bytes=5_000_000_000, md5_hash="m", crc32c="c")
    made = object_rows.register_object(connection, G1, facts, OTHER_TASK)
    row = row_of(connection, made.row_id)
    assert (made.status, made.created) == (Status.QUEUED, True)
    assert (row["bucket"], row["object_name"], row["generation"]) == ("drops", "a.jpg", 1)
    assert row["task"] == str(OTHER_TASK)
    assert (row["content_type"], row["size_bytes"]) == ("image/png", 5_000_000_000)
    assert (row["md5_hash"], row["crc32c"]) == ("m", "c")
    assert (row["attempts"], row["lost_attempts"], row["lease_until"]) == (0, 0, None)


def test_an_event_without_facts_inserts_a_row(connection: Connection) -> None:
    """Payload NONE: all columns of facts are NULL."""
    made = object_rows.register_object(connection, G1, ObjectFacts(), TASK)
    row = row_of(connection, made.row_id)
    assert [row[name] for name in ("content_type", "size_bytes", "md5_hash", "event_time")] == [None] * 4


def test_the_same_event_again_finds_the_row_as_it_is(connection: Connection) -> None:
    """A duplicate event has no effect and returns the row's present status."""
    row_id = drop(connection, G1)
    again = object_rows.register_object(connection, G1, ObjectFacts(), TASK)
    assert again == object_rows.RegisteredRow(row_id, Status.QUEUED, created=False)
    record(connection, take(connection, row_id))
    again = object_rows.register_object(connection, G1, ObjectFacts(), TASK)
    assert again == object_rows.RegisteredRow(row_id, Status.CAPTIONED, created=False)


@pytest.mark.parametrize("request_first", [True, False])
def test_one_task_of_a_generation_is_written_back(connection: Connection, request_first: bool) -> None:
    """The event's task is written to the metadata, and a requested task is not, whichever row is there first."""
    if request_first:
        object_rows.register_object(connection, G1, ObjectFacts(), OTHER_TASK, own_task=False)
    own, later = drop(connection, G1), drop(connection, G1, TaskRequest(TaskPrompt.OD))
    asked = object_rows.register_object(connection, G1, ObjectFacts(), OTHER_TASK, own_task=False).row_id
    assert [row_of(connection, row_id)["write_back"] for row_id in (own, later, asked)] == [True, False, False]
    found = claims.claim(connection, own, LEASE_S, CHILD)
    assert isinstance(found.work, Claim)
    due = [
        attempts.record_caption(connection, claim, a_caption(), IMAGE, size_bytes=9, write_back_lease_s=LEASE_S)
        for claim in sorted(
            (found.work, *found.siblings), key=lambda claim: (own, later, asked).index(claim.row_id)
        )
    ]
    assert [(recorded.held, recorded.is_write_back_due) for recorded in due] == [
        (True, True),
        (True, False),
        (True, False),
    ]
    assert [row_of(connection, row_id)["lease_until"] is not None for row_id in (own, later, asked)] == [
        True,
        False,
        False,
    ]


def test_an_event_adopts_the_row_of_a_request(connection: Connection) -> None:
    """By the function's settings the requested task is the object's own: its caption is written back later."""
    asked = object_rows.register_object(connection, G1, ObjectFacts(), TASK, own_task=False).row_id
    assert record(connection, take(connection, asked), write_back=True)
    assert drop(connection, G1) == asked
    assert isinstance(claims.claim(connection, asked, LEASE_S, CHILD).work, WriteBack)
    assert row_of(connection, drop(connection, G1, OTHER_TASK))["write_back"] is False


def test_a_newer_generation_supersedes_unfinished_rows(connection: Connection) -> None:
    """Queued and running rows of older generations are superseded; finished rows and other objects are not."""
    queued, running = drop(connection, G1), drop(connection, G1, OTHER_TASK)
    take(connection, running)
    other = drop(connection, ObjectVersion("drops", "b.jpg", 1))
    done = drop(connection, ObjectVersion("drops", "a.jpg", 0))
    # Finished before the next generation: g0 is captioned by hand, since g1 superseded its row.
    connection.execute(
        text("UPDATE captions SET status = 'failed', error_code = 'x', error = 'y' WHERE id = :i"), {"i": done}
    )
    newest = drop(connection, G2)
    states = [status_of(connection, row_id) for row_id in (queued, running, other, done, newest)]
    expected = [Status.SUPERSEDED, Status.SUPERSEDED, Status.QUEUED, Status.FAILED, Status.QUEUED]
    assert states == expected
    assert row_of(connection, running)["lease_until"] is None


@pytest.mark.parametrize("order", [(G1, G2, G3), (G3, G2, G1), (G2, G3, G1), (G3, G1, G2)])
def test_generations_in_any_order_leave_the_newest_current(
    connection: Connection, order: tuple[ObjectVersion, ...]
) -> None:
    """In any order, only the newest generation is queued, and the view has the newest generation."""
    ids = {version.generation: drop(connection, version) for version in order}
    states = [status_of(connection, ids[generation]) for generation in (1, 2, 3)]
    assert states == [Status.SUPERSEDED, Status.SUPERSEDED, Status.QUEUED]
    assert list(connection.execute(text("SELECT generation FROM current_captions")).scalars()) == [3]


def test_an_object_refused_by_its_event_has_a_reason(connection: Connection) -> None:
    """A row inserted as failed has an error code and a message, and is never claimed."""
    made = object_rows.register_failed(connection, G1, ObjectFacts(), str(TASK), "too_large", "a\x00b\ud800c")
    row = row_of(connection, made.row_id)
    assert (made.status, row["error_code"]) == (Status.FAILED, "too_large")
    assert row["error"] == "a\N{REPLACEMENT CHARACTER}b?c"
    assert claims.claim(connection, made.row_id, LEASE_S, CHILD).work is None


def test_an_old_object_refused_by_its_event_is_superseded(connection: Connection) -> None:
    """An older generation is superseded, not failed."""
    drop(connection, G2)
    made = object_rows.register_failed(connection, G1, ObjectFacts(), str(TASK), "too_large", "words")
    row = row_of(connection, made.row_id)
    assert (made.status, row["error_code"], row["error"]) == (Status.SUPERSEDED, None, None)


@pytest.mark.parametrize(
    "name",
    [
        "\N{CAT FACE}" * 256,
        "\x01" * 1024,
        '"' * 1024,
        "../..//",
        "/a",
        "%2F#?&",
        " ' \\ ",
        "a\u202eb",
        "<b>[red]",
    ],
)
def test_the_longest_names_and_tasks_fit(connection: Connection, database_url: str, name: str) -> None:
    """Any legal name with the longest task fits into a row, an index and a notification, and is read back."""
    version = ObjectVersion("b" * 222, name, 2**62)
    task = TaskRequest(TaskPrompt.REFERRING_EXPRESSION_SEGMENTATION, "\N{CAT FACE}" * 125)
    with listening(settings_of(database_url), "test") as listener:
        row_id = drop(connection, version, task)
        notice = next(listener.notices(60))
    assert (notice.bucket, notice.object_name, notice.generation) == ("b" * 222, name, 2**62)
    assert notice.task == str(task)
    claim = take(connection, row_id)
    assert (claim.version, claim.task) == (version, task)


def test_a_delete_ends_every_row_of_its_generation(connection: Connection) -> None:
    """Queued, running and captioned rows of all tasks become deleted, without a lease; other rows stay."""
    one, two = drop(connection, G1), drop(connection, G1, OTHER_TASK)
    take(connection, two)
    newer = drop(connection, G2)
    object_rows.tombstone(connection, G1)
    states = [status_of(connection, row_id) for row_id in (one, two, newer)]
    assert states == [Status.DELETED, Status.DELETED, Status.QUEUED]
    assert row_of(connection, two)["lease_until"] is None


def test_an_archive_keeps_the_caption_out_of_the_current_ones(connection: Connection) -> None:
    """Rows of an archived generation are superseded, without a lease; their captions stay, and are not current.

    The result of an attempt that was running is refused.
    """
    current = text("SELECT count(*) FROM current_captions WHERE caption IS NOT NULL")
    captioned, running = drop(connection, G1), drop(connection, G1, OTHER_TASK)
    record(connection, take(connection, captioned))
    end_waits(connection)
    claim = take(connection, running)
    assert connection.execute(current).scalar() == 1
    object_rows.archive(connection, G1)
    assert [status_of(connection, row_id) for row_id in (captioned, running)] == [Status.SUPERSEDED] * 2
    assert row_of(connection, captioned)["caption"] == "a red circle"
    assert row_of(connection, running)["lease_until"] is None
    assert not record(connection, claim)
    assert connection.execute(text("SELECT count(*) FROM current_captions")).scalar() == 0


def test_a_restored_object_is_current_again(connection: Connection) -> None:
    """A restore makes a newer generation: its row is queued, and the archived one stays superseded."""
    old = drop(connection, G1)
    object_rows.archive(connection, G1)
    restored = drop(connection, G2)
    assert [status_of(connection, row_id) for row_id in (old, restored)] == [Status.SUPERSEDED, Status.QUEUED]
    assert connection.execute(text("SELECT generation FROM current_captions")).scalar() == G2.generation


def test_a_delete_before_its_finalize_leaves_a_tombstone(connection: Connection) -> None:
    """The late FINALIZE finds a tombstone and queues no row, for any task."""
    object_rows.tombstone(connection, G1)
    object_rows.tombstone(connection, G1)
    for task in (TASK, OTHER_TASK):
        late = object_rows.register_object(connection, G1, ObjectFacts(), task)
        assert (late.status, late.created) == (Status.DELETED, False)
    assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == 1


def test_a_finalize_for_another_task_of_a_deleted_generation_is_late(connection: Connection) -> None:
    """The generation stays deleted for every task."""
    row_id = drop(connection, G1)
    object_rows.tombstone(connection, G1)
    late = object_rows.register_object(connection, G1, ObjectFacts(), OTHER_TASK)
    assert late == object_rows.RegisteredRow(row_id, Status.DELETED, created=False)


def test_the_delete_of_a_newer_generation_keeps_the_older_one_back(connection: Connection) -> None:
    """After the DELETE of g2, a late FINALIZE of g1 inserts a superseded row, which is not current."""
    object_rows.tombstone(connection, G2)
    late = object_rows.register_object(connection, G1, ObjectFacts(), TASK)
    assert late.status is Status.SUPERSEDED
    assert connection.execute(text("SELECT count(*) FROM current_captions")).scalar() == 0


def test_an_event_of_an_object_with_a_long_history_reads_few_rows(connection: Connection) -> None:
    """Neither the search for a newer generation nor the superseding reads the generations of before."""
    connection.execute(
        text("""
            INSERT INTO captions (bucket, object_name, generation, task, status, caption, model, captioned_at)
            SELECT 'drops', 'often.jpg', n, '<CAPTION>', 'captioned', 'a red circle', 'demo', now()
            FROM generate_series(1, 3000) AS n
        """)
    )
    connection.execute(text("ANALYZE captions"))
    unfinished = drop(connection, ObjectVersion("drops", "often.jpg", 3001))
    newest = ObjectVersion("drops", "often.jpg", 3002)
    found = nested_plans_of(
        connection, lambda: object_rows.register_object(connection, newest, ObjectFacts(), TASK)
    )
    plans = [plan for plan in found if any("captions" in node for node in plan.nodes)]
    assert len(plans) == 4
    assert not any("ix_captions_ended" in plan.indexes for plan in plans), "the statuses may have changed since"
    assert all(plan.rows_read <= 3 and not plan.scans_captions for plan in plans), plans
    assert status_of(connection, unfinished) is Status.SUPERSEDED
    shown = text("SELECT generation FROM current_captions WHERE object_name = 'often.jpg'")
    assert connection.execute(shown).scalars().all() == [3002]
