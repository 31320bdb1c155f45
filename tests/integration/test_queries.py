"""Every transition of a row, and every guard that refuses one, against a real Postgres."""

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, text

from db import queries
from db.listen import listening
from db.session import transaction
from dropline.contract import (
    Claim,
    ObjectFacts,
    ObjectVersion,
    Status,
    TaskPrompt,
    TaskRequest,
    WriteBack,
)
from tests.support.rows import (
    IMAGE,
    LEASE_S,
    TASK,
    a_caption,
    caption_object,
    drop,
    engine_of,
    expire_leases,
    fail_object,
    record,
    row_of,
    settings_of,
    take,
)

G1, G2, G3 = (ObjectVersion("drops", "a.jpg", generation) for generation in (1, 2, 3))
OTHER_TASK = TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "a \N{CAT FACE}")


@pytest.fixture
def engine(database: str) -> Iterator[Engine]:
    with engine_of(database) as found:
        yield found


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    """Each statement in a transaction of its own, as far as a single-threaded test can see."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as found:
        yield found


def status_of(connection: Connection, row_id: int) -> Status:
    return Status(row_of(connection, row_id)["status"])


# Events


def test_an_event_makes_a_queued_row_with_what_it_knew(connection: Connection) -> None:
    """Facts of the event land in their columns; nothing has been tried yet."""
    facts = ObjectFacts(content_type="image/png", size_bytes=5_000_000_000, md5_hash="m", crc32c="c")
    made = queries.register_object(connection, G1, facts, OTHER_TASK)
    row = row_of(connection, made.row_id)
    assert (made.status, made.created) == (Status.QUEUED, True)
    assert (row["bucket"], row["object_name"], row["generation"]) == ("drops", "a.jpg", 1)
    assert row["task"] == str(OTHER_TASK)
    assert (row["content_type"], row["size_bytes"]) == ("image/png", 5_000_000_000)
    assert (row["md5_hash"], row["crc32c"]) == ("m", "c")
    assert (row["attempts"], row["lost_attempts"], row["lease_until"]) == (0, 0, None)


def test_an_event_that_knew_nothing_makes_a_row_too(connection: Connection) -> None:
    """Payload NONE: no facts, all of them NULL."""
    made = queries.register_object(connection, G1, ObjectFacts(), TASK)
    row = row_of(connection, made.row_id)
    assert [row[name] for name in ("content_type", "size_bytes", "md5_hash", "event_time")] == [None] * 4


def test_the_same_event_again_finds_the_row_as_it_is(connection: Connection) -> None:
    """A duplicate changes nothing and tells the row's present state, whatever that is."""
    row_id = drop(connection, G1)
    again = queries.register_object(connection, G1, ObjectFacts(), TASK)
    assert again == queries.Registration(row_id, Status.QUEUED, created=False)
    record(connection, take(connection, row_id))
    again = queries.register_object(connection, G1, ObjectFacts(), TASK)
    assert again == queries.Registration(row_id, Status.CAPTIONED, created=False)


def test_each_task_of_a_generation_has_a_row(connection: Connection) -> None:
    """Two tasks of one generation live side by side."""
    assert drop(connection, G1) != drop(connection, G1, OTHER_TASK)


def test_a_newer_generation_supersedes_those_that_wait(connection: Connection) -> None:
    """Queued and running rows of older generations are superseded; finished ones and other objects are not."""
    queued, running = drop(connection, G1), drop(connection, G1, OTHER_TASK)
    take(connection, running)
    other = drop(connection, ObjectVersion("drops", "b.jpg", 1))
    done = drop(connection, ObjectVersion("drops", "a.jpg", 0))
    # Finished before its successor came: as g0 it has to be captioned by hand, for g1 superseded it.
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
    """However they come, only the newest generation is queued, and it is what the view shows."""
    ids = {version.generation: drop(connection, version) for version in order}
    states = [status_of(connection, ids[generation]) for generation in (1, 2, 3)]
    assert states == [Status.SUPERSEDED, Status.SUPERSEDED, Status.QUEUED]
    assert list(connection.execute(text("SELECT generation FROM current_captions")).scalars()) == [3]


def test_an_object_refused_by_its_event_says_why(connection: Connection) -> None:
    """A row that is born failed has a code and words, and is never claimed."""
    made = queries.register_failed(connection, G1, ObjectFacts(), str(TASK), "too_large", "a\x00b\ud800c")
    row = row_of(connection, made.row_id)
    assert (made.status, row["error_code"]) == (Status.FAILED, "too_large")
    assert row["error"] == "a\N{REPLACEMENT CHARACTER}b?c"
    assert queries.claim(connection, made.row_id, LEASE_S) is None


def test_an_old_object_refused_by_its_event_is_superseded(connection: Connection) -> None:
    """What is not current is no failure."""
    drop(connection, G2)
    made = queries.register_failed(connection, G1, ObjectFacts(), str(TASK), "too_large", "words")
    row = row_of(connection, made.row_id)
    assert (made.status, row["error_code"], row["error"]) == (Status.SUPERSEDED, None, None)


# Names


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
def test_the_longest_names_and_tasks_fit_everywhere(connection: Connection, database: str, name: str) -> None:
    """Any legal name with the longest task fits into a row, an index and a notification, and comes back whole."""
    version = ObjectVersion("b" * 222, name, 2**62)
    task = TaskRequest(TaskPrompt.REFERRING_EXPRESSION_SEGMENTATION, "\N{CAT FACE}" * 125)
    with listening(settings_of(database), "test") as listener:
        row_id = drop(connection, version, task)
        notice = next(listener.notices(60))
    assert (notice.bucket, notice.object_name, notice.generation) == ("b" * 222, name, 2**62)
    assert notice.task == str(task)
    claim = take(connection, row_id)
    assert (claim.version, claim.task) == (version, task)


# Deletes


def test_a_delete_ends_every_row_of_its_generation(connection: Connection) -> None:
    """Queued, running and captioned rows of all tasks become deleted, others stay; leases are gone."""
    one, two = drop(connection, G1), drop(connection, G1, OTHER_TASK)
    take(connection, two)
    newer = drop(connection, G2)
    queries.tombstone(connection, G1)
    states = [status_of(connection, row_id) for row_id in (one, two, newer)]
    assert states == [Status.DELETED, Status.DELETED, Status.QUEUED]
    assert row_of(connection, two)["lease_until"] is None


def test_a_delete_that_comes_first_waits_for_its_finalize(connection: Connection) -> None:
    """The late FINALIZE finds a tombstone and queues nothing, for any task."""
    queries.tombstone(connection, G1)
    queries.tombstone(connection, G1)
    for task in (TASK, OTHER_TASK):
        late = queries.register_object(connection, G1, ObjectFacts(), task)
        assert (late.status, late.created) == (Status.DELETED, False)
    assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == 1


def test_a_finalize_for_another_task_of_a_deleted_generation_is_late(connection: Connection) -> None:
    """The generation stays deleted, whichever task its rows had."""
    row_id = drop(connection, G1)
    queries.tombstone(connection, G1)
    late = queries.register_object(connection, G1, ObjectFacts(), OTHER_TASK)
    assert late == queries.Registration(row_id, Status.DELETED, created=False)


def test_the_delete_of_a_newer_generation_keeps_the_older_one_back(connection: Connection) -> None:
    """Once g2 is known to be gone, g1 that comes late is history: superseded, and not current."""
    queries.tombstone(connection, G2)
    late = queries.register_object(connection, G1, ObjectFacts(), TASK)
    assert late.status is Status.SUPERSEDED
    assert connection.execute(text("SELECT count(*) FROM current_captions")).scalar() == 0


@pytest.mark.parametrize("round_", range(20))
def test_a_finalize_and_its_delete_at_once_end_deleted(engine: Engine, round_: int) -> None:
    """Whichever of the two wins, nothing of the generation stays queued."""
    version = ObjectVersion("drops", f"race-{round_}", 1)
    barrier = threading.Barrier(4)

    def run(act: Callable[[Connection], object]) -> None:
        barrier.wait()
        with transaction(engine) as connection:
            act(connection)

    acts: list[Callable[[Connection], object]] = [
        lambda connection: queries.tombstone(connection, version),
        lambda connection: drop(connection, version),
    ]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, acts * 2))
    with transaction(engine) as connection:
        states = connection.execute(
            text("SELECT status FROM captions WHERE object_name = :name"), {"name": version.name}
        )
        assert list(states.scalars()) == ["deleted"]


def test_generations_at_once_leave_one_queued(engine: Engine) -> None:
    """Ten generations registered by ten threads at once: the newest is queued, all others superseded."""
    versions = [ObjectVersion("drops", "a.jpg", generation) for generation in range(1, 11)]
    barrier = threading.Barrier(10)

    def run(version: ObjectVersion) -> None:
        barrier.wait()
        with transaction(engine) as connection:
            drop(connection, version)

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(run, versions))
    with transaction(engine) as connection:
        found = connection.execute(text("SELECT generation FROM captions WHERE status = 'queued'"))
        assert list(found.scalars()) == [10]
        assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == 10


# Claims


def test_a_claim_takes_the_row_and_numbers_the_attempt(connection: Connection) -> None:
    """The row runs under a lease, and the claim holds all that is needed to work on it."""
    row_id = drop(connection, G1, OTHER_TASK)
    claim = take(connection, row_id)
    assert claim == Claim(row_id, G1, OTHER_TASK, attempt=1, lost_attempts=0)
    row = row_of(connection, row_id)
    assert (row["status"], row["attempts"]) == (Status.RUNNING, 1)
    assert row["started_at"] is not None
    assert row["lease_until"] > row["started_at"]


def test_a_row_under_lease_is_busy_for_others(connection: Connection) -> None:
    """The second claim learns how long the lease still holds."""
    row_id = drop(connection, G1)
    take(connection, row_id, lease_s=600)
    busy = queries.claim(connection, row_id, LEASE_S)
    assert isinstance(busy, queries.Busy)
    assert 0 < busy.remaining_s <= 600


def test_a_lease_that_ran_out_counts_a_lost_attempt(connection: Connection) -> None:
    """The next claim takes over, with a new number and one death counted."""
    row_id = drop(connection, G1)
    take(connection, row_id)
    expire_leases(connection)
    claim = take(connection, row_id)
    assert (claim.attempt, claim.lost_attempts, claim.retries) == (2, 1, 0)


def test_a_released_lease_can_be_taken_over_at_once(connection: Connection) -> None:
    """Who knows that a process died need not wait for its lease."""
    row_id = drop(connection, G1)
    take(connection, row_id)
    assert queries.release_lease(connection, row_id)
    assert take(connection, row_id).lost_attempts == 1


def test_there_is_no_lease_to_release_where_nobody_works(connection: Connection) -> None:
    """Queued and finished rows are left alone."""
    row_id = drop(connection, G1)
    assert not queries.release_lease(connection, row_id)
    record(connection, take(connection, row_id))
    assert not queries.release_lease(connection, row_id)
    assert status_of(connection, row_id) is Status.CAPTIONED


@pytest.mark.parametrize("ending", ["record", "fail", "supersede", "mark_deleted", "tombstone"])
def test_what_has_ended_is_not_claimed(connection: Connection, ending: str) -> None:
    """A message about a finished row finds nothing to do."""
    row_id = drop(connection, G1)
    claim = take(connection, row_id)
    endings: dict[str, Callable[[], object]] = {
        "record": lambda: record(connection, claim),
        "fail": lambda: queries.fail(connection, claim, "code", "words"),
        "supersede": lambda: queries.supersede(connection, claim),
        "mark_deleted": lambda: queries.mark_deleted(connection, claim),
        "tombstone": lambda: queries.tombstone(connection, G1),
    }
    endings[ending]()
    expire_leases(connection)
    assert queries.claim(connection, row_id, LEASE_S) is None


def test_a_row_that_never_was_is_not_claimed(connection: Connection) -> None:
    """A message with an unknown id finds nothing to do."""
    assert queries.claim(connection, 12345, LEASE_S) is None


def test_of_many_claims_at_once_one_wins(engine: Engine) -> None:
    """Ten threads claim one row: one gets it, nine find it busy."""
    with transaction(engine) as connection:
        row_id = drop(connection, G1)
    barrier = threading.Barrier(10)

    def run(_: int) -> object:
        barrier.wait()
        with transaction(engine) as connection:
            return queries.claim(connection, row_id, LEASE_S)

    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(run, range(10)))
    assert sorted(type(answer).__name__ for answer in answers) == ["Busy"] * 9 + ["Claim"]


# Results


def test_a_caption_is_recorded_whole(connection: Connection) -> None:
    """Words, boxes, model and size are in the row, and an earlier error is not."""
    row_id = drop(connection, G1)
    queries.put_back(connection, take(connection, row_id), "engine_lost", "it died", lost=False)
    claim = take(connection, row_id)
    boxes = {"boxes": [[0, 0, 1.5, 2]], "labels": ["\N{CAT FACE}"]}
    assert queries.record_caption(
        connection, claim, a_caption("a\x00b \N{CAT FACE}", boxes), IMAGE, size_bytes=7, write_back_lease_s=None
    )
    row = row_of(connection, row_id)
    assert row["caption"] == "a\N{REPLACEMENT CHARACTER}b \N{CAT FACE}"
    assert (row["result"], row["model"], row["model_revision"]) == (boxes, "demo", "r1")
    assert (row["width"], row["height"], row["size_bytes"]) == (640, 480, 7)
    assert (row["error_code"], row["error"], row["lease_until"]) == (None, None, None)
    assert row["captioned_at"] is not None


def test_plain_words_have_no_result(connection: Connection) -> None:
    """A task without boxes stores SQL's NULL, not JSON's."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id))
    assert connection.execute(text("SELECT result IS NULL FROM captions")).scalar() is True


@pytest.mark.parametrize("act", ["record", "fail", "put_back", "supersede", "mark_deleted"])
def test_a_stale_attempt_changes_nothing(connection: Connection, act: str) -> None:
    """Once another attempt holds the row, whatever the old one says is refused."""
    row_id = drop(connection, G1)
    stale = take(connection, row_id)
    expire_leases(connection)
    fresh = take(connection, row_id)
    before = row_of(connection, row_id)
    assert not _act(connection, act, stale)
    assert row_of(connection, row_id) == before
    assert _act(connection, act, fresh)


@pytest.mark.parametrize("act", ["record", "fail", "put_back", "supersede", "mark_deleted"])
@pytest.mark.parametrize("ending", ["tombstone", "newer"])
def test_a_result_for_a_generation_that_is_gone_changes_nothing(
    connection: Connection, act: str, ending: str
) -> None:
    """A delete or an overwrite during the work wins over its result."""
    row_id = drop(connection, G1)
    claim = take(connection, row_id)
    if ending == "tombstone":
        queries.tombstone(connection, G1)
    else:
        drop(connection, G2)
    before = row_of(connection, row_id)
    assert not _act(connection, act, claim)
    assert row_of(connection, row_id) == before


def _act(connection: Connection, act: str, claim: Claim) -> bool:
    acts: dict[str, Callable[[], bool]] = {
        "record": lambda: record(connection, claim),
        "fail": lambda: queries.fail(connection, claim, "code", "words"),
        "put_back": lambda: queries.put_back(connection, claim, "code", "words", lost=False),
        "supersede": lambda: queries.supersede(connection, claim),
        "mark_deleted": lambda: queries.mark_deleted(connection, claim),
    }
    return acts[act]()


def test_the_same_attempt_may_record_twice(connection: Connection) -> None:
    """The answer to a COMMIT can be lost; repeating it is no error and changes no words."""
    row_id = drop(connection, G1)
    claim = take(connection, row_id)
    assert record(connection, claim)
    assert record(connection, claim)
    assert row_of(connection, row_id)["caption"] == "a red circle"


@pytest.mark.parametrize(("lost", "retries", "lost_attempts"), [(False, 1, 0), (True, 0, 1)])
def test_a_row_put_back_can_be_taken_again(
    connection: Connection, lost: bool, retries: int, lost_attempts: int
) -> None:
    """It is queued with the reason; the next claim counts a retry or a lost attempt."""
    row_id = drop(connection, G1)
    assert queries.put_back(connection, take(connection, row_id), "storage_unavailable", "429", lost=lost)
    row = row_of(connection, row_id)
    assert (row["status"], row["error_code"], row["error"]) == (Status.QUEUED, "storage_unavailable", "429")
    claim = take(connection, row_id)
    assert (claim.retries, claim.lost_attempts) == (retries, lost_attempts)


def test_a_failure_says_why(connection: Connection) -> None:
    """The dead letter has a code and words, and no lease."""
    row_id = drop(connection, G1)
    assert queries.fail(connection, take(connection, row_id), "truncated_image", "ends at byte 7")
    row = row_of(connection, row_id)
    expected = (Status.FAILED, "truncated_image", "ends at byte 7", None)
    assert (row["status"], row["error_code"], row["error"], row["lease_until"]) == expected


# Write-back


def test_a_write_back_is_taken_over_without_the_model(connection: Connection) -> None:
    """After a death between commit and PATCH only the PATCH is left to do, and no attempt is counted."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert isinstance(queries.claim(connection, row_id, LEASE_S), queries.Busy)
    expire_leases(connection)
    found = queries.claim(connection, row_id, LEASE_S)
    assert found == WriteBack(row_id, G1, str(TASK), "a red circle", "demo")
    assert row_of(connection, row_id)["attempts"] == 1
    assert isinstance(queries.claim(connection, row_id, LEASE_S), queries.Busy)


def test_a_finished_write_back_leaves_nothing_to_do(connection: Connection) -> None:
    """The time is noted, the lease is gone, and a late message finds nothing."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert queries.finish_write_back(connection, row_id, written=True)
    row = row_of(connection, row_id)
    assert row["metadata_written_at"] is not None
    assert (row["lease_until"], row["error_code"]) == (None, None)
    assert queries.claim(connection, row_id, LEASE_S) is None


def test_a_write_back_left_out_says_why(connection: Connection) -> None:
    """The caption stays; code and note say why the metadata has it not."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert queries.finish_write_back(connection, row_id, written=False, code="metadata_full", note="8 KiB")
    row = row_of(connection, row_id)
    assert (row["status"], row["caption"]) == (Status.CAPTIONED, "a red circle")
    assert (row["metadata_written_at"], row["error_code"], row["error"]) == (None, "metadata_full", "8 KiB")


def test_a_write_back_to_a_deleted_object_changes_nothing(connection: Connection) -> None:
    """Deleted stays deleted."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    queries.tombstone(connection, G1)
    assert not queries.finish_write_back(connection, row_id, written=True)
    assert status_of(connection, row_id) is Status.DELETED


# Notifications


def test_every_transition_is_heard_once_and_in_order(engine: Engine, database: str) -> None:
    """One notice per change of state, one more for the metadata; a duplicate event makes none."""
    with listening(settings_of(database), "test") as listener:
        row_id = caption_object(engine, G1)
        with transaction(engine) as connection:
            drop(connection, G1)
            queries.finish_write_back(connection, row_id, written=True)
        with transaction(engine) as connection:
            queries.tombstone(connection, G1)
        heard = []
        for notice in listener.notices(60):
            assert (notice.id, notice.object_name, notice.generation) == (row_id, "a.jpg", 1)
            heard.append((notice.status.value, notice.metadata_written))
            if notice.status is Status.DELETED:
                break
    expected = [
        ("queued", False),
        ("running", False),
        ("captioned", False),
        ("captioned", True),
        ("deleted", True),
    ]
    assert heard == expected


def test_nothing_is_heard_of_what_was_rolled_back(engine: Engine, database: str) -> None:
    """The notice is part of the transaction: after a rollback the next thing heard is another row's."""
    with listening(settings_of(database), "test") as listener:
        with transaction(engine) as connection:
            drop(connection, G1)
            connection.rollback()
        with transaction(engine) as connection:
            drop(connection, G2)
        assert next(listener.notices(60)).generation == 2


def test_nothing_is_heard_before_the_commit(engine: Engine, database: str) -> None:
    """Who hears of a caption can read it: of two open transactions the first to commit is heard first."""
    with listening(settings_of(database), "test") as listener:
        with transaction(engine) as late, transaction(engine) as early:
            drop(late, G1)
            drop(early, ObjectVersion("drops", "b.jpg", 1))
            early.commit()
            assert next(listener.notices(60)).object_name == "b.jpg"
        assert next(listener.notices(60)).object_name == "a.jpg"


def test_failures_are_heard(engine: Engine, database: str) -> None:
    """A dead letter is news like a caption: queued at its event, then failed."""
    with listening(settings_of(database), "test") as listener:
        fail_object(engine, G1, "code", "words")
        # Its three transitions are one transaction: Postgres sends each, for each says something else.
        heard = list(itertools.islice((notice.status for notice in listener.notices(60)), 3))
    assert heard == [Status.QUEUED, Status.RUNNING, Status.FAILED]
