"""The pipeline from claim to record, over rows, objects and a model in memory."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from db import breakers
from db.breakers import Reference
from db.due_rows import Due
from dropline.contract import Dimensions, ObjectVersion, Status, TaskPrompt, TaskRequest
from dropline.errors import (
    AccessDenied,
    DatabaseUnavailable,
    DroplineError,
    EngineLost,
    EngineUnavailable,
    ImageRefused,
    InferenceFailed,
    ObjectGone,
    PermanentError,
    StorageUnavailable,
)
from dropline.settings import MetadataSettings
from tests.support.captioning import CHILD, LEASE_S, PNG, RETRY_FOR_S, SETTINGS, Bench, make_bench
from tests.support.row_model import Lease, NotBefore, Row
from worker.pipeline import Outcome

#: Of the captioner.
MODEL = ("fake", "r1")
CAPTIONED = Outcome("captioned", Due())
FAILED = Outcome("failed", Due())
#: The row is in its first back-off, and no other row is unfinished.
QUEUED = Outcome("queued", Due(next_in_s=2))
WRITTEN = Row(Status.CAPTIONED, attempts=1, caption="a red half", written=True, claimed_by=CHILD)

WHOLE_WAY = ["claim", "announce", "download", "decode", "caption", "record_caption"]
WHOLE_WAY += ["write_metadata", "finish_write_back"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A pipeline and doubles, without a row."""
    return make_bench(monkeypatch)


def test_a_dropped_image_is_captioned_and_its_metadata_written(bench: Bench) -> None:
    """The steps are in order: the announcement before the download, and Postgres before the metadata."""
    row_id = bench.drop()
    assert bench.run(row_id) == CAPTIONED
    assert bench.journal == WHOLE_WAY
    assert bench.rows.row(row_id) == WRITTEN
    assert bench.store.metadata == {bench.rows.version(row_id): ("a red half", "<CAPTION>", "fake")}


def test_the_row_gets_the_bytes_and_pixels_of_the_original(bench: Bench) -> None:
    """The model gets a square of the model's size, and the size of the original."""
    row_id = bench.drop()
    bench.run(row_id)
    details = bench.rows.details(row_id)
    assert (details.size_bytes, details.image, details.model) == (len(PNG), Dimensions(64, 48), "fake")
    task = TaskRequest(TaskPrompt.CAPTION)
    (timed,) = bench.captioner.requests
    request = timed.request
    assert (request.pixels.shape, request.task, request.original) == ((8, 8, 3), task, Dimensions(64, 48))
    assert (request.isolated, timed.timeout_s) == (False, 77)


def test_the_engine_hears_the_priority_of_the_row(bench: Bench) -> None:
    """In its queue, too, fresh images go before those of a backfill."""
    for generation, priority in ((1, 2), (2, 0)):
        bench.run(bench.drop(generation=generation, priority=priority))
    assert [timed.request.priority for timed in bench.captioner.requests] == [2, 0]


@pytest.mark.parametrize("during", ["caption", "write_metadata"])
def test_claim_and_write_back_are_leased_for_the_time_of_a_task(bench: Bench, during: str) -> None:
    """Another message finds a leased row, and the lease is longer than the time limit of a task."""
    row_id = bench.drop()
    bench.script.plan(during, StorageUnavailable("503"))
    # The attempt cannot end, as after the death of the process.
    for end in ("requeue", "postpone_write_back"):
        bench.script.plan(end, DatabaseUnavailable("away"), SoftTimeLimitExceeded())
    with pytest.raises(SoftTimeLimitExceeded):
        bench.run(row_id)
    assert bench.rows.row(row_id).lease is Lease.HELD
    assert bench.rows.details(row_id).in_s == LEASE_S
    assert bench.run(row_id) == Outcome("nothing is due", Due(next_in_s=LEASE_S))


def test_the_pipeline_has_what_the_engine_did(bench: Bench) -> None:
    """The death of the engine, a caption, and nothing where no engine was used: for the breaker."""
    row_id = bench.drop()
    bench.script.plan("caption", EngineLost("died"))
    pipeline = bench.pipeline()
    uses = []
    for _ in range(3):
        pipeline.run(row_id)
        uses.append(list(pipeline.engine_uses))
        bench.wait()
    assert [[(use.engine, use.row_id, use.lost) for use in each] for each in uses] == [
        [(3, row_id, True)],
        [(3, row_id, False)],
        [],
    ]
    bench.script.plan("caption", EngineUnavailable("starts"))
    pipeline.run(bench.drop(generation=2))
    assert pipeline.engine_uses == []


def reference_of(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> tuple[Reference, int]:
    """A captioned row as the reference of an engine that is tried, and a row that is due."""
    reference = bench.drop()
    assert bench.run(reference) == CAPTIONED
    found = Reference(reference, bench.rows.version(reference), TaskRequest(TaskPrompt.OD))
    monkeypatch.setattr(breakers, "find_reference", lambda _connection, *model: found if model == MODEL else None)
    bench.captioner.is_tried, bench.captioner.model = True, MODEL
    worker = SETTINGS.worker.model_copy(update={"copy_identical": False})
    bench.settings = SETTINGS.model_copy(update={"worker": worker})
    return found, bench.drop(generation=2)


def test_an_engine_under_suspicion_captions_a_reference_first(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image that the model has captioned before: alone, with its own task, and nothing is recorded of it."""
    reference, row_id = reference_of(bench, monkeypatch)
    bench.script.plan("caption", None, EngineLost("died"))
    pipeline = bench.pipeline()
    bench.script.journal.clear()
    assert pipeline.run(row_id) == QUEUED
    looked = ["announce", "download", "decode", "caption"]
    assert bench.journal == ["claim", *looked, *looked, "requeue"]
    asked = bench.captioner.requests[-1].request
    assert (asked.task, asked.isolated) == (reference.task, True)
    uses = [(use.row_id, use.lost) for use in pipeline.engine_uses]
    assert uses == [(reference.row_id, False), (row_id, True)]
    assert bench.rows.row(reference.row_id) == WRITTEN
    assert bench.rows.row(row_id).lost_attempts == 1


def test_the_death_of_an_engine_on_the_reference_costs_no_attempt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is broken: the row waits, and none of its attempts is lost."""
    reference, row_id = reference_of(bench, monkeypatch)
    bench.script.plan("caption", EngineLost("died"))
    pipeline = bench.pipeline()
    assert pipeline.run(row_id) == QUEUED
    assert [(use.row_id, use.lost) for use in pipeline.engine_uses] == [(reference.row_id, True)]
    assert bench.rows.row(row_id).lost_attempts == 0
    assert bench.rows.row(reference.row_id) == WRITTEN


@pytest.mark.parametrize("missing", ["object", "row", "model"])
def test_without_a_reference_the_image_is_the_probe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Its object is gone, no row has a caption of this model, or the model is not known yet."""
    reference, row_id = reference_of(bench, monkeypatch)
    if missing == "object":
        del bench.store.objects[reference.version]
    elif missing == "row":
        monkeypatch.setattr(breakers, "find_reference", lambda *_: None)
    else:
        bench.captioner.model = None
    pipeline = bench.pipeline()
    assert pipeline.run(row_id) == CAPTIONED
    assert [(use.row_id, use.lost) for use in pipeline.engine_uses] == [(row_id, False)]
    announced = bench.journal.count("announce")
    assert announced == bench.journal.count("caption") + bench.journal.count("retract")


def test_without_write_back_the_row_ends_with_its_caption(bench: Bench) -> None:
    """DROPLINE_METADATA__WRITE is off: no lease stays, and the object is left alone."""
    bench.settings = SETTINGS.model_copy(update={"metadata": MetadataSettings(write=False)})
    row_id = bench.drop()
    assert bench.run(row_id) == CAPTIONED
    assert bench.journal == WHOLE_WAY[:-2]
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


def test_a_further_task_ends_with_its_caption_and_leaves_the_object_alone(bench: Bench) -> None:
    """A request for another task than the object's own is answered in Postgres alone."""
    bench.run(bench.drop())
    bench.store.metadata.clear()
    further = bench.rows.register(task="<OD>", own_task=False)
    assert bench.run(further) == CAPTIONED
    assert bench.journal == WHOLE_WAY[:-2]
    assert bench.state(further) == (Status.CAPTIONED, None, None)
    assert bench.store.metadata == {}


def test_without_an_engine_nothing_is_downloaded(bench: Bench) -> None:
    """A refused announcement puts the row back at once."""
    row_id = bench.drop()
    bench.script.plan("announce", EngineUnavailable("the engine is starting"))
    assert bench.run(row_id) == QUEUED
    assert bench.journal == ["claim", "announce", "requeue"]
    assert bench.state(row_id) == (Status.QUEUED, "engine_unavailable", None)


@pytest.mark.parametrize("error", [StorageUnavailable("503"), SoftTimeLimitExceeded(), ValueError("a bug")])
def test_an_announced_request_that_will_not_come_is_retracted(bench: Bench, error: Exception) -> None:
    """The announcement is retracted, because the engine would hold a batch open for the request."""
    row_id = bench.drop()
    bench.script.plan("download", error)
    assert bench.run(row_id) == QUEUED
    assert bench.journal == ["claim", "announce", "download", "retract", "requeue"]


def test_an_image_that_cannot_be_decoded_is_retracted_and_fails_at_once(bench: Bench) -> None:
    """A fault of the image is final, and the row has the code and the words of the fault."""
    row_id = bench.drop(b"Dear diary")
    assert bench.run(row_id) == FAILED
    assert bench.journal == ["claim", "announce", "download", "decode", "retract", "fail"]
    assert bench.state(row_id) == (Status.FAILED, "not_an_image", None)
    assert bench.rows.details(row_id).error


def test_an_encoding_that_is_not_undone_is_the_reason_for_bytes_that_are_no_image(bench: Bench) -> None:
    """An image under the wrong label is captioned; compressed bytes fail with the name of their encoding."""
    bench.store.coding = "br"
    assert bench.run(bench.drop()) == CAPTIONED
    row_id = bench.drop(b"\x0b\x02\x80compressed\x03", generation=2)
    assert bench.run(row_id) == FAILED
    assert bench.state(row_id) == (Status.FAILED, "unsupported_format", None)
    assert '"br"' in (bench.rows.details(row_id).error or "")


def test_an_object_beyond_the_limit_is_refused(bench: Bench) -> None:
    """The download gets DROPLINE_EVENTS__MAX_SIZE_BYTES."""
    row_id = bench.drop(PNG.ljust(100_001, b"\0"))
    assert bench.run(row_id) == FAILED
    assert bench.state(row_id) == (Status.FAILED, "object_too_large", None)


@pytest.mark.parametrize(
    ("call", "error", "code", "lost"),
    [
        ("announce", EngineUnavailable("away"), "engine_unavailable", 0),
        ("download", StorageUnavailable("503"), "storage_unavailable", 0),
        ("caption", EngineUnavailable("away"), "engine_unavailable", 0),
        ("caption", EngineLost("died"), "engine_lost", 1),
        ("download", AccessDenied("no right"), "access_denied", 0),
        ("caption", SoftTimeLimitExceeded(), "inference_timeout", 0),
        ("download", MemoryError(), "out_of_memory", 1),
        ("caption", ZeroDivisionError(), "internal_error", 1),
    ],
)
def test_a_transient_error_puts_the_row_back(
    bench: Bench, call: str, error: Exception, code: str, lost: int
) -> None:
    """The row is queued with the reason and a back-off; a possible fault of the image counts as a lost attempt."""
    row_id = bench.drop()
    bench.script.plan(call, error)
    assert bench.run(row_id) == QUEUED
    assert bench.state(row_id) == (Status.QUEUED, code, None)
    row = bench.rows.row(row_id)
    assert (row.lost_attempts, row.not_before, row.failing) == (lost, NotBefore.TO_COME, True)
    assert bench.run(row_id) == Outcome("nothing is due", Due(next_in_s=2))
    bench.wait()
    assert bench.run(row_id) == CAPTIONED
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


@pytest.mark.parametrize(
    ("failing_s", "outcome"),
    [
        (3, Outcome("queued", Due(next_in_s=3))),
        (RETRY_FOR_S - 1, Outcome("queued", Due(next_in_s=20))),
        (RETRY_FOR_S, FAILED),
    ],
)
def test_transient_errors_of_one_row_end_in_a_failed_row(bench: Bench, failing_s: float, outcome: Outcome) -> None:
    """The row fails after `retry_for_s` seconds of errors, with a longer pause before each attempt."""
    row_id = bench.drop()
    bench.rows.details(row_id).failing_s = failing_s
    bench.script.plan("download", StorageUnavailable("503"))
    assert bench.run(row_id) == outcome
    assert bench.state(row_id) == (Status(outcome.words), "storage_unavailable", None)
    words = "given up after 1 attempt: 503" if outcome == FAILED else "503"
    assert bench.rows.details(row_id).error == words


@pytest.mark.parametrize(("call", "error"), [("download", ImageRefused("no")), ("caption", InferenceFailed("no"))])
def test_a_permanent_error_fails_the_row_at_once(bench: Bench, call: str, error: PermanentError) -> None:
    """The row has code and words of the error."""
    row_id = bench.drop()
    bench.script.plan(call, error)
    assert bench.run(row_id) == FAILED
    assert bench.state(row_id) == (Status.FAILED, error.code, None)
    assert bench.rows.details(row_id).error == "no"


def test_after_a_death_the_image_is_captioned_apart(bench: Bench) -> None:
    """An image suspected of a crash must not take other images of a batch along."""
    row_id = bench.drop()
    bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == CAPTIONED
    assert [timed.request.isolated for timed in bench.captioner.requests] == [True]


def test_an_image_that_kills_its_process_is_set_aside(bench: Bench) -> None:
    """After `max_lost_attempts` deaths the row fails without another download; the error names the object."""
    row_id = bench.drop()
    for _ in range(3):
        bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == FAILED
    assert bench.journal == ["claim", "fail"]
    assert bench.state(row_id) == (Status.FAILED, "worker_lost", None)
    assert "gs://drops/cat.png#1: 3 attempts ended with the death" in (bench.rows.details(row_id).error or "")


def test_one_death_fewer_is_another_attempt(bench: Bench) -> None:
    """The last allowed attempt is made."""
    row_id = bench.drop()
    for _ in range(2):
        bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == CAPTIONED


def test_an_image_at_the_soft_time_limit_is_captioned_apart(bench: Bench) -> None:
    """The limit is counted, is no death, and the image must not delay the images of a batch again."""
    row_id = bench.drop()
    bench.script.plan("caption", SoftTimeLimitExceeded())
    bench.run(row_id)
    bench.wait()
    assert bench.rows.details(row_id).slow_attempts == 1
    assert bench.run(row_id) == CAPTIONED
    assert [timed.request.isolated for timed in bench.captioner.requests] == [True]


@pytest.mark.parametrize("error", [DatabaseUnavailable("away"), AccessDenied("permission denied")])
def test_42_a_caption_is_kept_while_postgres_refuses_the_record(bench: Bench, error: DroplineError) -> None:
    """A right that is revoked during the attempt, and given back, costs no second inference."""
    row_id = bench.drop()
    bench.script.plan("record_caption", error, error)
    assert bench.run(row_id) == CAPTIONED
    assert len(bench.captioner.requests) == 1


@pytest.mark.parametrize(
    ("step", "error", "ending"),
    [
        ("download", StorageUnavailable("503"), "requeue"),
        ("download", ImageRefused("no"), "fail"),
        ("download", ObjectGone("gone"), "mark_deleted"),
        ("write_metadata", StorageUnavailable("503"), "postpone_write_back"),
        ("write_metadata", None, "finish_write_back"),
    ],
)
def test_the_end_of_an_attempt_is_repeated_while_postgres_refuses_it(
    bench: Bench, step: str, error: DroplineError | None, ending: str
) -> None:
    """Otherwise the attempt would count as lost at the end of its lease."""
    row_id = bench.drop()
    bench.script.plan(step, error)
    bench.script.plan(ending, DatabaseUnavailable("away"), AccessDenied("no right"))
    if isinstance(error, ObjectGone):
        bench.store.objects.clear()
    bench.run(row_id)
    assert (bench.journal.count(ending), len(bench.sleeps)) == (3, 2)
    assert bench.rows.row(row_id).status is not Status.RUNNING


@pytest.mark.parametrize(
    ("live", "status", "step"),
    [
        ((), Status.DELETED, "mark_deleted"),
        ((2,), Status.SUPERSEDED, "supersede"),
        ((0,), Status.DELETED, "mark_deleted"),
    ],
)
def test_a_generation_that_is_gone_is_deleted_or_superseded(
    bench: Bench, live: tuple[int, ...], status: Status, step: str
) -> None:
    """The row is neither failed nor retried: a newer generation means an overwrite, no generation a delete."""
    row_id = bench.rows.register()
    bench.store.objects = {ObjectVersion("drops", "cat.png", generation): PNG for generation in live}
    assert bench.run(row_id) == Outcome(status, Due())
    assert bench.journal == ["claim", "announce", "download", "retract", "check_gone", step]
    assert bench.state(row_id) == (status, None, None)


@pytest.mark.parametrize(
    ("error", "result", "status"),
    [
        (StorageUnavailable("503"), QUEUED, Status.QUEUED),
        (AccessDenied("no"), QUEUED, Status.QUEUED),
        (PermanentError("no"), FAILED, Status.FAILED),
    ],
)
def test_overwritten_or_deleted_must_be_known(
    bench: Bench, error: DroplineError, result: Outcome, status: Status
) -> None:
    """An error of the second look is an error of the attempt."""
    row_id = bench.rows.register()
    bench.script.plan("check_gone", error)
    assert bench.run(row_id) == result
    assert bench.state(row_id) == (status, error.code, None)


def test_a_message_of_a_leased_row_ends_with_the_time_of_the_next_row(bench: Bench) -> None:
    """Another child has the row: its parent's alarm is for the end of the lease."""
    row_id = bench.drop()
    bench.rows.claim_once(row_id, 30)
    assert bench.run(row_id) == Outcome("nothing is due", Due(next_in_s=30))
    assert bench.journal == ["claim"]
    assert bench.state(row_id) == (Status.RUNNING, None, Lease.HELD)


def test_a_message_of_a_finished_or_unknown_row_ends(bench: Bench) -> None:
    """The claim finds no work, and the message ends."""
    row_id = bench.drop()
    bench.run(row_id)
    for known in (row_id, 404):
        assert bench.run(known) == Outcome("nothing is due", Due())
        assert bench.journal == ["claim"]


def claimed_alone(bench: Bench, *row_ids: int) -> None:
    """An attempt of each row was lost, so that its siblings are not claimed with it."""
    for row_id in row_ids:
        bench.rows.row(row_id).lost_attempts = 1


def test_a_message_is_a_hint(bench: Bench) -> None:
    """The row of the message is captioned; with an unknown hint, the row that has waited longest."""
    first, second, third = bench.drop(), bench.rows.register(task="<OD>"), bench.rows.register(task="<OCR>")
    claimed_alone(bench, first, second, third)
    assert bench.run(second) == Outcome("captioned", Due((first,)))
    assert bench.state(second) == (Status.CAPTIONED, None, None)
    assert bench.run(404) == Outcome("captioned", Due((third,)))
    assert bench.state(first) == (Status.CAPTIONED, None, None)


def test_a_hint_does_not_go_before_a_more_urgent_row(bench: Bench) -> None:
    """The fresh row is captioned, and the row of the message is the next."""
    bulk = bench.rows.register(task="<OD>", priority=2)
    fresh = bench.drop()
    claimed_alone(bench, bulk)
    assert bench.run(bulk) == Outcome("captioned", Due((bulk,)))
    assert bench.state(fresh) == (Status.CAPTIONED, None, None)


def test_another_child_is_woken_before_the_work_where_another_row_is_due(bench: Bench) -> None:
    """One message may stand for many due rows; where no other row is due, none is sent."""
    first, second = bench.drop(), bench.rows.register(task="<OD>", own_task=False)
    claimed_alone(bench, second)
    bench.run(first)
    assert (bench.woken, bench.journal[:3]) == ([second], ["claim", "wake", "announce"])
    bench.run(second)
    assert bench.woken == [second]


def test_the_next_row_is_read_at_the_end_of_the_work(bench: Bench) -> None:
    """A row that was queued meanwhile is in the outcome."""
    row_id = bench.drop()
    bench.captioner.meanwhile = lambda: bench.rows.register(task="<OD>", own_task=False)
    assert bench.run(row_id) == Outcome("captioned", Due((2,)))
    assert bench.woken == []


def several(bench: Bench) -> tuple[int, int, int]:
    """The ids of three tasks of one object."""
    return bench.drop(), bench.rows.register(task="<OD>"), bench.rows.register(task="<OCR>")


def test_three_tasks_of_an_object_take_one_download_one_decoding_and_one_request(bench: Bench) -> None:
    """Each row has its caption, and that of the first task alone is written back."""
    row_ids = several(bench)
    assert bench.run(row_ids[1]) == CAPTIONED
    assert bench.journal == [*WHOLE_WAY[:5], *["record_caption"] * 3, *WHOLE_WAY[6:]]
    assert [str(timed.request.task) for timed in bench.captioner.requests] == ["<OD>", "<CAPTION>", "<OCR>"]
    assert len({id(timed.request.pixels) for timed in bench.captioner.requests}) == 1
    assert [bench.rows.row(row_id).status for row_id in row_ids] == [Status.CAPTIONED] * 3
    assert [bench.rows.row(row_id).written for row_id in row_ids] == [True, False, False]


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (InferenceFailed("no"), Status.FAILED, "inference_failed"),
        (EngineUnavailable("full"), Status.QUEUED, "engine_unavailable"),
    ],
)
def test_a_task_without_an_answer_does_not_concern_the_others(
    bench: Bench, error: DroplineError, status: Status, code: str
) -> None:
    """The second answer is an error: its row alone has it."""
    row_ids = several(bench)
    bench.script.plan("answer", None, error)
    bench.run(row_ids[0])
    ends = [bench.state(row_id) for row_id in row_ids]
    assert ends == [(Status.CAPTIONED, None, None), (status, code, None), (Status.CAPTIONED, None, None)]


def test_a_dead_engine_counts_for_each_task_and_then_each_runs_alone(bench: Bench) -> None:
    """One of the tasks may have killed the engine, so no later attempt has company."""
    row_ids = several(bench)
    bench.script.plan("caption", EngineLost("died"))
    pipeline = bench.pipeline()
    pipeline.run(row_ids[0])
    uses = pipeline.engine_uses
    assert [(use.engine, use.row_id, use.lost) for use in uses] == [(3, row_id, True) for row_id in row_ids]
    assert len({use.image for use in uses}) == 1
    assert [bench.rows.row(row_id).lost_attempts for row_id in row_ids] == [1, 1, 1]
    bench.wait()
    bench.captioner.requests.clear()
    for row_id in row_ids:
        bench.run(row_id)
        assert bench.journal.count("record_caption") == 1
    assert [timed.request.isolated for timed in bench.captioner.requests] == [True] * 3


def test_a_row_that_moves_on_leaves_its_siblings_alone(bench: Bench) -> None:
    """The fence is that of each row: another attempt at one row refuses the caption of this row alone."""
    row_ids = several(bench)

    def lose_one() -> None:
        bench.rows.row(row_ids[1]).attempts += 1

    bench.captioner.meanwhile = lose_one
    bench.run(row_ids[0])
    assert [bench.rows.row(row_id).caption for row_id in row_ids] == ["a red half", None, "a red half"]


def test_without_postgres_the_message_has_no_outcome(bench: Bench) -> None:
    """The task reports that the parent is to look again."""
    bench.script.plan("begin", DatabaseUnavailable("away"))
    with pytest.raises(DatabaseUnavailable):
        bench.run(bench.drop())


def redone(bench: Bench) -> int:
    """The id of a captioned row that is queued again."""
    row_id = bench.drop()
    bench.run(row_id)
    bench.rows.row(row_id).caption = "the old caption"
    bench.rows.redo(row_id)
    return row_id


def test_a_captioned_row_can_be_captioned_again(bench: Bench) -> None:
    """The row keeps its status, and its caption until the record of the new one; the metadata follows."""
    row_id = redone(bench)
    seen = []
    bench.captioner.meanwhile = lambda: seen.append((bench.rows.row(row_id).caption, bench.state(row_id)))
    assert bench.run(row_id) == CAPTIONED
    assert seen == [("the old caption", (Status.CAPTIONED, None, Lease.HELD))]
    assert bench.journal == WHOLE_WAY
    row = bench.rows.row(row_id)
    assert (row.caption, row.attempts, row.redo) == ("a red half", 2, False)


@pytest.mark.parametrize(
    ("error", "outcome", "redo"),
    [
        (StorageUnavailable("503"), QUEUED, True),
        (AccessDenied("no"), QUEUED, True),
        (ImageRefused("no"), FAILED, False),
    ],
)
def test_a_row_that_cannot_be_captioned_again_keeps_its_caption(
    bench: Bench, error: DroplineError, outcome: Outcome, redo: bool
) -> None:
    """After a transient error the row waits for its back-off; after a permanent one it has the reason."""
    row_id = redone(bench)
    bench.script.plan("download", error)
    assert bench.run(row_id) == outcome
    row = bench.rows.row(row_id)
    assert (row.status, row.caption, row.code) == (Status.CAPTIONED, "the old caption", error.code)
    assert (row.redo, row.lease) == (redo, None)


def test_a_caption_is_kept_in_hand_while_postgres_is_away(bench: Bench) -> None:
    """The model runs once, however often the record is tried; no pause is longer than 5 seconds."""
    row_id = bench.drop()
    bench.script.plan("record_caption", *[DatabaseUnavailable("away")] * 4)
    assert bench.run(row_id) == CAPTIONED
    assert bench.sleeps == [2, 2, 4, 5]
    assert len(bench.captioner.requests) == 1
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


def test_a_record_whose_answer_is_lost_is_made_again(bench: Bench) -> None:
    """The connection broke after the commit: the same attempt records the same caption, then writes back."""
    row_id = bench.drop()
    bench.script.plan("commit", None, DatabaseUnavailable("broken"))
    assert bench.run(row_id) == CAPTIONED
    assert bench.journal.count("record_caption") == 2
    assert bench.rows.row(row_id) == WRITTEN


@pytest.mark.parametrize("deleted", [True, False])
def test_a_result_of_a_row_that_has_moved_on_is_refused(bench: Bench, deleted: bool) -> None:
    """The object was deleted, or another attempt took over: no record and no write-back."""
    row_id = bench.drop()

    def move_on() -> None:
        if deleted:
            bench.rows.model.delete(1)
        else:
            bench.wait()
            bench.rows.claim_once(row_id, 30)

    bench.captioner.meanwhile = move_on
    assert "refused" in bench.run(row_id).words
    assert bench.journal == WHOLE_WAY[:-2]
    assert bench.rows.row(row_id).caption is None
    assert bench.store.metadata == {}


def test_an_error_of_a_row_that_has_moved_on_is_dropped(bench: Bench) -> None:
    """The object was deleted during the failed attempt: the message ends."""
    row_id = bench.drop()

    def delete_and_fail() -> None:
        bench.rows.model.delete(1)
        raise EngineUnavailable("away")

    bench.captioner.meanwhile = delete_and_fail
    assert "refused" in bench.run(row_id).words
    assert bench.state(row_id) == (Status.DELETED, None, None)
