"""The pipeline from claim to record, over rows, objects and a model in memory."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from dropline.contract import Dimensions, ObjectVersion, Status, TaskPrompt, TaskRequest
from dropline.errors import (
    AccessDenied,
    DatabaseUnavailable,
    EngineLost,
    EngineUnavailable,
    InferenceFailed,
    StorageUnavailable,
)
from dropline.settings import MetadataSettings
from tests.support.captioning import FIRST, LEASE_S, PNG, SETTINGS, Bench, make_bench
from tests.support.row_model import Lease, Row
from worker.pipeline import Acknowledge, Delivery, Redeliver

WHOLE_WAY = ["claim", "announce", "download", "decode", "caption", "record_caption"]
WHOLE_WAY += ["write_metadata", "finish_write_back"]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A pipeline and doubles, without a row."""
    return make_bench(monkeypatch)


def test_a_dropped_image_is_captioned_and_its_metadata_written(bench: Bench) -> None:
    """The steps are in order: the announcement before the download, and Postgres before the metadata."""
    row_id = bench.drop()
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.journal == WHOLE_WAY
    assert bench.rows.row(row_id) == Row(Status.CAPTIONED, attempts=1, caption="a red half", written=True)
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


@pytest.mark.parametrize("during", ["caption", "write_metadata"])
def test_claim_and_write_back_are_leased_for_the_time_of_a_task(bench: Bench, during: str) -> None:
    """A duplicate delivery finds a leased row, and the lease is longer than the time limit of a task."""
    row_id = bench.drop()
    bench.script.plan(during, StorageUnavailable("503"))
    # The attempt cannot end, as after the death of the process.
    bench.script.plan("requeue", DatabaseUnavailable("away"))
    bench.script.plan("expire_lease", DatabaseUnavailable("away"))
    assert isinstance(bench.run(row_id), Redeliver)
    assert bench.rows.row(row_id).lease is Lease.HELD
    assert bench.rows.details(row_id).lease_s == LEASE_S


def test_without_write_back_the_row_ends_with_its_caption(bench: Bench) -> None:
    """DROPLINE_METADATA__WRITE is off: no lease stays, and the object is left alone."""
    bench.settings = SETTINGS.model_copy(update={"metadata": MetadataSettings(write=False)})
    row_id = bench.drop()
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.journal == WHOLE_WAY[:-2]
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


def test_a_further_task_ends_with_its_caption_and_leaves_the_object_alone(bench: Bench) -> None:
    """A request for another task than the object's own is answered in Postgres alone."""
    bench.drop()
    further = bench.rows.register(task="<OD>", own_task=False)
    assert bench.run(further) == Acknowledge("captioned")
    assert bench.journal == WHOLE_WAY[:-2]
    assert bench.state(further) == (Status.CAPTIONED, None, None)
    assert bench.store.metadata == {}


def test_without_an_engine_nothing_is_downloaded(bench: Bench) -> None:
    """A refused announcement puts the row back at once."""
    row_id = bench.drop()
    bench.script.plan("announce", EngineUnavailable("the engine is starting"))
    assert bench.run(row_id) == Redeliver(2, "engine_unavailable")
    assert bench.journal == ["claim", "announce", "requeue"]
    assert bench.state(row_id) == (Status.QUEUED, "engine_unavailable", None)


@pytest.mark.parametrize("error", [StorageUnavailable("503"), SoftTimeLimitExceeded(), ValueError("a bug")])
def test_an_announced_request_that_will_not_come_is_retracted(bench: Bench, error: Exception) -> None:
    """The announcement is retracted, because the engine would hold a batch open for the request."""
    row_id = bench.drop()
    bench.script.plan("download", error)
    assert isinstance(bench.run(row_id), Redeliver)
    assert bench.journal == ["claim", "announce", "download", "retract", "requeue"]


def test_an_image_that_cannot_be_decoded_is_retracted_and_fails_at_once(bench: Bench) -> None:
    """A fault of the image is final, and the row has the code and the words of the fault."""
    row_id = bench.drop(b"Dear diary")
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.journal == ["claim", "announce", "download", "decode", "retract", "fail"]
    assert bench.state(row_id) == (Status.FAILED, "not_an_image", None)
    assert bench.rows.details(row_id).error


def test_an_encoding_that_is_not_undone_is_the_reason_for_bytes_that_are_no_image(bench: Bench) -> None:
    """An image under the wrong label is captioned; compressed bytes fail with the name of their encoding."""
    bench.store.coding = "br"
    assert bench.run(bench.drop()) == Acknowledge("captioned")
    row_id = bench.drop(b"\x0b\x02\x80compressed\x03", generation=2)
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.state(row_id) == (Status.FAILED, "unsupported_format", None)
    assert '"br"' in (bench.rows.details(row_id).error or "")


def test_an_object_beyond_the_limit_is_refused(bench: Bench) -> None:
    """The download gets DROPLINE_EVENTS__MAX_SIZE_BYTES."""
    row_id = bench.drop(PNG.ljust(100_001, b"\0"))
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.state(row_id) == (Status.FAILED, "object_too_large", None)


@pytest.mark.parametrize(
    ("call", "error", "code", "lost"),
    [
        ("announce", EngineUnavailable("away"), "engine_unavailable", 0),
        ("download", StorageUnavailable("503"), "storage_unavailable", 0),
        ("caption", EngineUnavailable("away"), "engine_unavailable", 0),
        ("caption", EngineLost("died"), "engine_lost", 1),
        ("caption", SoftTimeLimitExceeded(), "inference_timeout", 1),
        ("download", MemoryError(), "out_of_memory", 1),
        ("caption", ZeroDivisionError(), "internal_error", 1),
    ],
)
def test_a_transient_error_puts_the_row_back(
    bench: Bench, call: str, error: Exception, code: str, lost: int
) -> None:
    """The row is queued with the reason; a possible fault of the image counts as a lost attempt."""
    row_id = bench.drop()
    bench.script.plan(call, error)
    assert bench.run(row_id) == Redeliver(2, code)
    assert bench.state(row_id) == (Status.QUEUED, code, None)
    assert bench.rows.row(row_id).lost_attempts == lost
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


def test_transient_errors_of_one_row_end_in_a_dead_letter(bench: Bench) -> None:
    """The row fails after `max_retries` further attempts, with a longer pause before each attempt."""
    row_id = bench.drop()
    bench.script.plan("download", *[StorageUnavailable("503")] * 3)
    code = "storage_unavailable"
    assert bench.deliver(row_id) == [Redeliver(2, code), Redeliver(4, code), Acknowledge("failed")]
    assert bench.state(row_id) == (Status.FAILED, code, None)
    assert "given up after 3 attempts: 503" in (bench.rows.details(row_id).error or "")


@pytest.mark.parametrize(("call", "error"), [("download", AccessDenied("no")), ("caption", InferenceFailed("no"))])
def test_a_permanent_error_is_a_dead_letter_at_once(bench: Bench, call: str, error: AccessDenied) -> None:
    """The row has code and words of the error."""
    row_id = bench.drop()
    bench.script.plan(call, error)
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.state(row_id) == (Status.FAILED, error.code, None)
    assert bench.rows.details(row_id).error == "no"


def test_after_a_death_the_image_is_captioned_apart(bench: Bench) -> None:
    """An image suspected of a crash must not take other images of a batch along."""
    row_id = bench.drop()
    bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == Acknowledge("captioned")
    assert [timed.request.isolated for timed in bench.captioner.requests] == [True]


def test_an_image_that_kills_its_process_is_set_aside(bench: Bench) -> None:
    """After `max_lost_attempts` deaths the row fails without another download; the error names the object."""
    row_id = bench.drop()
    for _ in range(3):
        bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.journal == ["claim", "fail"]
    assert bench.state(row_id) == (Status.FAILED, "worker_lost", None)
    assert "gs://drops/cat.png#1: 3 attempts ended with the death" in (bench.rows.details(row_id).error or "")


def test_one_death_fewer_is_another_attempt(bench: Bench) -> None:
    """The last allowed attempt is made."""
    row_id = bench.drop()
    for _ in range(2):
        bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == Acknowledge("captioned")


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
    assert bench.run(row_id) == Acknowledge(status)
    assert bench.journal == ["claim", "announce", "download", "retract", "live_generation", step]
    assert bench.state(row_id) == (status, None, None)


@pytest.mark.parametrize(
    ("error", "result", "status"),
    [
        (StorageUnavailable("503"), Redeliver(2, "storage_unavailable"), Status.QUEUED),
        (AccessDenied("no"), Acknowledge("failed"), Status.FAILED),
    ],
)
def test_overwritten_or_deleted_must_be_known(
    bench: Bench, error: AccessDenied, result: Acknowledge | Redeliver, status: Status
) -> None:
    """An error of the second look is an error of the attempt."""
    row_id = bench.rows.register()
    bench.script.plan("live_generation", error)
    assert bench.run(row_id) == result
    assert bench.state(row_id) == (status, error.code, None)


def test_a_repeated_delivery_of_a_leased_row_comes_after_the_lease(bench: Bench) -> None:
    """The delivery may be the last message of a dead process, and must not spin on Postgres during the lease."""
    row_id = bench.drop()
    bench.rows.claim_once(row_id, 30)
    result = bench.run(row_id, Delivery(repeated=True, retries=0))
    assert isinstance(result, Redeliver)
    assert 30 < result.delay_s <= 40
    assert bench.journal == ["claim"]


def test_a_plain_duplicate_of_a_leased_row_ends(bench: Bench) -> None:
    """Another delivery has the row."""
    row_id = bench.drop()
    bench.rows.claim_once(row_id, 30)
    assert isinstance(bench.run(row_id), Acknowledge)
    assert bench.journal == ["claim"]
    assert bench.state(row_id) == (Status.RUNNING, None, Lease.HELD)


@pytest.mark.parametrize("delivery", [FIRST, Delivery(repeated=True, retries=1)])
def test_a_message_of_a_finished_or_unknown_row_ends(bench: Bench, delivery: Delivery) -> None:
    """The claim finds no work, and the message ends."""
    row_id = bench.drop()
    bench.run(row_id)
    for known in (row_id, 404):
        assert bench.run(known, delivery) == Acknowledge("nothing to do")
        assert bench.journal == ["claim"]


@pytest.mark.parametrize(("retries", "delay_s"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 20), (1000, 20)])
def test_without_postgres_the_message_comes_again(bench: Bench, retries: int, delay_s: float) -> None:
    """The pause doubles up to the cap."""
    bench.script.plan("begin", DatabaseUnavailable("away"))
    assert bench.run(bench.drop(), Delivery(repeated=True, retries=retries)) == Redeliver(delay_s, "away")


def test_a_caption_is_kept_in_hand_while_postgres_is_away(bench: Bench) -> None:
    """The model runs once, however often the record is tried; no pause is longer than 5 seconds."""
    row_id = bench.drop()
    bench.script.plan("record_caption", *[DatabaseUnavailable("away")] * 4)
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.sleeps == [2, 4, 5, 5]
    assert len(bench.captioner.requests) == 1
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


def test_a_record_whose_answer_is_lost_is_made_again(bench: Bench) -> None:
    """The connection broke after the commit: the same attempt records the same caption, then writes back."""
    row_id = bench.drop()
    bench.script.plan("commit", None, DatabaseUnavailable("broken"))
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.journal.count("record_caption") == 2
    assert bench.rows.row(row_id) == Row(Status.CAPTIONED, attempts=1, caption="a red half", written=True)


@pytest.mark.parametrize("deleted", [True, False])
def test_a_result_of_a_row_that_has_moved_on_is_refused(bench: Bench, deleted: bool) -> None:
    """The object was deleted, or another attempt took over: no record and no write-back."""
    row_id = bench.drop()

    def move_on() -> None:
        if deleted:
            bench.rows.model.delete(1)
        else:
            bench.expire_leases()
            bench.rows.claim_once(row_id, 30)

    bench.captioner.meanwhile = move_on
    result = bench.run(row_id)
    assert isinstance(result, Acknowledge)
    assert "refused" in result.outcome
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
    result = bench.run(row_id)
    assert isinstance(result, Acknowledge)
    assert "refused" in result.outcome
    assert bench.state(row_id) == (Status.DELETED, None, None)
