"""The pipeline from claim to write-back, over rows, objects and a model in memory."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from dropline.contract import Dimensions, ObjectVersion, Status, TaskPrompt, TaskRequest, WriteOutcome
from dropline.errors import (
    AccessDenied,
    DatabaseUnavailable,
    EngineLost,
    EngineUnavailable,
    InferenceFailed,
    ObjectGone,
    PreconditionLost,
    StorageUnavailable,
)
from dropline.settings import (
    EngineSettings,
    EventSettings,
    ImageSettings,
    MetadataSettings,
    Settings,
    WorkerSettings,
)
from tests.support.captioning import FakeCaptioner, FakeStore
from tests.support.image_files import encode, halves
from tests.support.memory_rows import MemoryRows
from tests.support.row_model import Lease, Row
from tests.support.script import Script
from worker.pipeline import Acknowledge, Delivery, Pipeline, Redeliver

PNG = encode(halves(64, 48), "PNG")
FIRST = Delivery(repeated=False, retries=0)
SETTINGS = Settings(
    worker=WorkerSettings(max_retries=2, max_lost_attempts=3, retry_base_s=2, retry_cap_s=20, time_limit_s=170),
    engine=EngineSettings(request_timeout_s=77),
    images=ImageSettings(child_memory_bytes=0),
    events=EventSettings(max_size_bytes=100_000),
)
#: Of SETTINGS.
LEASE_S = 200.0
WHOLE_WAY = ["claim", "announce", "download", "caption", "record_caption", "write_metadata", "finish_write_back"]


class Longest(random.Random):
    """Draws the bound of each back-off."""

    def uniform(self, a: float, b: float) -> float:
        """The larger end."""
        return b


@dataclass
class Bench:
    """A pipeline with its doubles."""

    script: Script
    rows: MemoryRows
    store: FakeStore
    captioner: FakeCaptioner
    engine: Any
    sleeps: list[float] = field(default_factory=list)
    settings: Settings = SETTINGS

    def drop(self, data: bytes = PNG, generation: int = 1) -> int:
        """An object with its queued row: the row's id."""
        row_id = self.rows.register(generation)
        self.store.objects[self.rows.version(row_id)] = data
        return row_id

    def run(self, row_id: int, delivery: Delivery = FIRST) -> Acknowledge | Redeliver:
        """One delivery; the journal begins anew."""
        self.script.journal.clear()
        pipeline = Pipeline(
            self.engine, self.store, self.captioner, self.settings, rng=Longest(), sleep=self.sleeps.append
        )
        return pipeline.run(row_id, delivery)

    def deliver(self, row_id: int) -> list[Acknowledge | Redeliver]:
        """Deliver the message until it is finished, as the task sends it again: the result of each delivery."""
        results = [self.run(row_id)]
        while isinstance(results[-1], Redeliver):
            assert len(results) < 20, "the message is delivered for ever"
            results.append(self.run(row_id, Delivery(repeated=True, retries=len(results))))
        return results

    def state(self, row_id: int) -> tuple[Status, str | None, Lease | None]:
        """Status, error code and lease of the row."""
        row = self.rows.row(row_id)
        return row.status, row.code, row.lease

    @property
    def journal(self) -> list[str]:
        """The calls of the last delivery, in order."""
        return self.script.journal


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A pipeline with its doubles, and no row."""
    script = Script()
    rows = MemoryRows(script)
    return Bench(script, rows, FakeStore(script), FakeCaptioner(script), rows.install(monkeypatch))


def expire(bench: Bench) -> None:
    """Let the leases run out, as after the death of a process."""
    bench.rows.model.kill_everything()


def test_a_dropped_image_is_captioned_and_its_metadata_written(bench: Bench) -> None:
    """The steps come in their order: Postgres before metadata, and no download before the announcement."""
    row_id = bench.drop()
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.journal == WHOLE_WAY
    assert bench.rows.row(row_id) == Row(Status.CAPTIONED, attempts=1, caption="a red half", written=True)
    assert bench.store.metadata == {bench.rows.version(row_id): ("a red half", "<CAPTION>", "fake")}


def test_the_row_gets_the_bytes_and_pixels_of_the_original(bench: Bench) -> None:
    """The model gets a square of its own size, and the original's size beside it."""
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
    """A duplicate that comes meanwhile finds the row leased, for longer than a task can live."""
    row_id = bench.drop()
    bench.script.plan(during, StorageUnavailable("503"))
    # The attempt cannot be ended, as if its process had died.
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


def test_without_an_engine_nothing_is_downloaded(bench: Bench) -> None:
    """A refused announcement puts the row back at once."""
    row_id = bench.drop()
    bench.script.plan("announce", EngineUnavailable("the engine is starting"))
    assert bench.run(row_id) == Redeliver(2, "engine_unavailable")
    assert bench.journal == ["claim", "announce", "requeue"]
    assert bench.state(row_id) == (Status.QUEUED, "engine_unavailable", None)


@pytest.mark.parametrize("error", [StorageUnavailable("503"), SoftTimeLimitExceeded(), ValueError("a bug")])
def test_an_announced_request_that_will_not_come_is_retracted(bench: Bench, error: Exception) -> None:
    """Otherwise the engine would hold its batch open for it."""
    row_id = bench.drop()
    bench.script.plan("download", error)
    assert isinstance(bench.run(row_id), Redeliver)
    assert bench.journal == ["claim", "announce", "download", "retract", "requeue"]


def test_an_image_that_cannot_be_decoded_is_retracted_and_fails_at_once(bench: Bench) -> None:
    """A fault of the image is final, and the row has its code and words."""
    row_id = bench.drop(b"Dear diary")
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.journal == ["claim", "announce", "download", "retract", "fail"]
    assert bench.state(row_id) == (Status.FAILED, "not_an_image", None)
    assert bench.rows.details(row_id).error


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
    """The row is queued with its reason, and whatever may be the image's fault is counted as a lost attempt."""
    row_id = bench.drop()
    bench.script.plan(call, error)
    assert bench.run(row_id) == Redeliver(2, code)
    assert bench.state(row_id) == (Status.QUEUED, code, None)
    assert bench.rows.row(row_id).lost_attempts == lost
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.state(row_id) == (Status.CAPTIONED, None, None)


def test_transient_errors_of_one_row_end_in_a_dead_letter(bench: Bench) -> None:
    """After `max_retries` further attempts, with a longer pause before each."""
    row_id = bench.drop()
    bench.script.plan("download", *[StorageUnavailable("503")] * 3)
    code = "storage_unavailable"
    assert bench.deliver(row_id) == [Redeliver(2, code), Redeliver(4, code), Acknowledge("failed")]
    assert bench.state(row_id) == (Status.FAILED, code, None)
    assert "given up after 3 attempts: 503" in (bench.rows.details(row_id).error or "")


@pytest.mark.parametrize(("call", "error"), [("download", AccessDenied("no")), ("caption", InferenceFailed("no"))])
def test_a_permanent_error_is_a_dead_letter_at_once(bench: Bench, call: str, error: AccessDenied) -> None:
    """Code and words of the error reach the row."""
    row_id = bench.drop()
    bench.script.plan(call, error)
    assert bench.run(row_id) == Acknowledge("failed")
    assert bench.state(row_id) == (Status.FAILED, error.code, None)
    assert bench.rows.details(row_id).error == "no"


def test_after_a_death_the_image_is_captioned_apart(bench: Bench) -> None:
    """An image that may have killed the engine must not take its neighbours along."""
    row_id = bench.drop()
    bench.rows.claim_and_die(row_id)
    assert bench.run(row_id) == Acknowledge("captioned")
    assert [timed.request.isolated for timed in bench.captioner.requests] == [True]


def test_an_image_that_kills_its_process_is_set_aside(bench: Bench) -> None:
    """After `max_lost_attempts` deaths the row fails without another download, and its words help."""
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
    """No failure and no retry: a newer generation under the name tells an overwrite from a delete."""
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
    """The delivery may be the last message of a dead process, and must not spin on Postgres meanwhile."""
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
    """Nothing is left to do, and nothing is done."""
    row_id = bench.drop()
    bench.run(row_id)
    for known in (row_id, 404):
        assert bench.run(known, delivery) == Acknowledge("nothing to do")
        assert bench.journal == ["claim"]


@pytest.mark.parametrize(("retries", "delay_s"), [(0, 2), (1, 4), (2, 8), (3, 16), (4, 20), (1000, 20)])
def test_without_postgres_the_message_comes_again(bench: Bench, retries: int, delay_s: float) -> None:
    """After a pause that doubles up to its cap."""
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
    """The connection broke after the commit: the same attempt records the same caption, and writes it back."""
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
            expire(bench)
            bench.rows.claim_once(row_id, 30)

    bench.captioner.meanwhile = move_on
    result = bench.run(row_id)
    assert isinstance(result, Acknowledge)
    assert "refused" in result.outcome
    assert bench.journal == WHOLE_WAY[:-2]
    assert bench.rows.row(row_id).caption is None
    assert bench.store.metadata == {}


def test_an_error_of_a_row_that_has_moved_on_is_dropped(bench: Bench) -> None:
    """The object was deleted while its attempt failed: the message ends."""
    row_id = bench.drop()

    def delete_and_fail() -> None:
        bench.rows.model.delete(1)
        raise EngineUnavailable("away")

    bench.captioner.meanwhile = delete_and_fail
    result = bench.run(row_id)
    assert isinstance(result, Acknowledge)
    assert "refused" in result.outcome
    assert bench.state(row_id) == (Status.DELETED, None, None)


def captioned_but_unwritten(bench: Bench) -> int:
    """A row whose process died between the record and the write-back: its id."""
    row_id = bench.drop()
    bench.script.plan("finish_write_back", DatabaseUnavailable("away"))
    bench.run(row_id)
    expire(bench)
    bench.store.metadata.clear()
    return row_id


def test_after_the_record_only_the_write_back_is_repeated(bench: Bench) -> None:
    """The model never runs again."""
    row_id = captioned_but_unwritten(bench)
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.journal == ["claim", "write_metadata", "finish_write_back"]
    assert bench.rows.row(row_id) == Row(Status.CAPTIONED, attempts=1, caption="a red half", written=True)
    assert bench.store.metadata == {bench.rows.version(row_id): ("a red half", "<CAPTION>", "fake")}


@pytest.mark.parametrize("error", [StorageUnavailable("503"), PreconditionLost("changed")])
def test_a_transient_error_of_the_write_back_frees_the_lease(bench: Bench, error: StorageUnavailable) -> None:
    """The next delivery needs not wait for the lease of this one."""
    row_id = bench.drop()
    bench.script.plan("write_metadata", error)
    result = bench.run(row_id)
    assert result == Redeliver(2, f"{error.code}: {error}")
    assert bench.journal[-2:] == ["write_metadata", "expire_lease"]
    assert bench.rows.row(row_id).lease is Lease.OVER
    assert bench.run(row_id, Delivery(repeated=True, retries=1)) == Acknowledge("captioned")
    assert bench.journal == ["claim", "write_metadata", "finish_write_back"]
    assert len(bench.captioner.requests) == 1


def test_the_write_back_gives_up_after_its_last_try(bench: Bench) -> None:
    """The row keeps its caption, has the error's code and words, and no lease, which would keep workers awake."""
    row_id = bench.drop()
    bench.script.plan("write_metadata", *[StorageUnavailable("503")] * 4)
    results = bench.deliver(row_id)
    assert results[:-1] == [Redeliver(2, "storage_unavailable: 503"), Redeliver(4, "storage_unavailable: 503")]
    assert results[-1] == Acknowledge("captioned")
    expected = Row(Status.CAPTIONED, attempts=1, caption="a red half", code="storage_unavailable")
    assert bench.rows.row(row_id) == expected
    assert bench.rows.details(row_id).error == "503"
    assert len(bench.captioner.requests) == 1


@pytest.mark.parametrize("error", [ObjectGone("gone"), AccessDenied("no")])
def test_a_permanent_error_ends_the_write_back(bench: Bench, error: AccessDenied) -> None:
    """The row keeps its caption and gets the error's code and words."""
    row_id = bench.drop()
    bench.script.plan("write_metadata", error)
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.state(row_id) == (Status.CAPTIONED, error.code, None)
    assert (bench.rows.details(row_id).error, bench.rows.row(row_id).written) == (str(error), False)


@pytest.mark.parametrize(
    "outcome",
    [
        WriteOutcome(written=True, code="metadata_shortened", note="cut"),
        WriteOutcome(written=False, code="metadata_kept", note="of a person"),
    ],
)
def test_what_the_metadata_lacks_is_in_the_row(bench: Bench, outcome: WriteOutcome) -> None:
    """Code and note of an incomplete write-back, and whether a caption was written."""
    row_id = bench.drop()
    bench.store.outcome = outcome
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.state(row_id) == (Status.CAPTIONED, outcome.code, None)
    assert (bench.rows.details(row_id).error, bench.rows.row(row_id).written) == (outcome.note, outcome.written)
