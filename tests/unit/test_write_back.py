"""The write-back, the pipeline's last step, over rows and objects in memory."""

import pytest

from dropline.contract import Status, WriteOutcome
from dropline.errors import AccessDenied, DatabaseUnavailable, ObjectGone, PreconditionLost, StorageUnavailable
from tests.support.captioning import Bench, make_bench
from tests.support.row_model import Lease, Row
from worker.pipeline import Acknowledge, Delivery, Redeliver


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A pipeline and doubles, without a row."""
    return make_bench(monkeypatch)


def captioned_but_unwritten(bench: Bench) -> int:
    """The id of a row left by a process killed between record and write-back."""
    row_id = bench.drop()
    bench.script.plan("finish_write_back", DatabaseUnavailable("away"))
    bench.run(row_id)
    bench.expire_leases()
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
    """The next delivery can claim the row at once."""
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
    """The row has caption, code and error, and no lease: a lease would keep the worker pool awake."""
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
    """The row keeps the caption and gets code and words of the error."""
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
    """The row has code and note of an incomplete write-back; `written` is true for a shortened caption."""
    row_id = bench.drop()
    bench.store.outcome = outcome
    assert bench.run(row_id) == Acknowledge("captioned")
    assert bench.state(row_id) == (Status.CAPTIONED, outcome.code, None)
    assert (bench.rows.details(row_id).error, bench.rows.row(row_id).written) == (outcome.note, outcome.written)
