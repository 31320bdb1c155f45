"""The write-back, the pipeline's last step, over rows and objects in memory."""

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from db.due_rows import Due
from dropline.contract import Status, WriteOutcome
from dropline.errors import (
    AccessDenied,
    DroplineError,
    ObjectGone,
    PermanentError,
    PreconditionLost,
    StorageUnavailable,
)
from tests.support.captioning import CHILD, RETRY_FOR_S, Bench, make_bench
from tests.support.row_model import Lease, Row
from worker.pipeline import Outcome

CAPTIONED = Outcome("captioned", Due())


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A pipeline and doubles, without a row."""
    return make_bench(monkeypatch)


def captioned_but_unwritten(bench: Bench) -> int:
    """The id of a row left by a process killed between record and write-back."""
    row_id = bench.drop()
    bench.script.plan("finish_write_back", SoftTimeLimitExceeded())
    with pytest.raises(SoftTimeLimitExceeded):
        bench.run(row_id)
    bench.wait()
    bench.store.metadata.clear()
    return row_id


def test_after_the_record_only_the_write_back_is_repeated(bench: Bench) -> None:
    """The model never runs again."""
    row_id = captioned_but_unwritten(bench)
    assert bench.run(row_id) == CAPTIONED
    assert bench.journal == ["claim", "write_metadata", "finish_write_back"]
    assert bench.rows.row(row_id) == Row(
        Status.CAPTIONED, attempts=1, caption="a red half", written=True, claimed_by=CHILD
    )
    assert bench.store.metadata == {bench.rows.version(row_id): ("a red half", "<CAPTION>", "fake")}


@pytest.mark.parametrize(
    "error", [StorageUnavailable("503"), PreconditionLost("changed"), AccessDenied("no right")]
)
def test_a_transient_error_postpones_the_write_back(bench: Bench, error: DroplineError) -> None:
    """The row has a lease for the back-off, which no child holds; then the write-back alone is repeated."""
    row_id = bench.drop()
    bench.script.plan("write_metadata", error)
    assert bench.run(row_id) == Outcome("captioned", Due(next_in_s=2))
    assert bench.journal[-2:] == ["write_metadata", "postpone_write_back"]
    row = bench.rows.row(row_id)
    assert (row.lease, row.failing, row.claimed_by) == (Lease.HELD, True, None)
    assert bench.run(row_id) == Outcome("nothing is due", Due(next_in_s=2))
    bench.wait()
    assert bench.run(row_id) == CAPTIONED
    assert bench.journal == ["claim", "write_metadata", "finish_write_back"]
    assert len(bench.captioner.requests) == 1
    assert not bench.rows.row(row_id).failing


@pytest.mark.parametrize(("failing_s", "next_in_s"), [(3, 3), (RETRY_FOR_S - 1, 20), (RETRY_FOR_S, None)])
def test_the_write_back_gives_up_after_its_time(bench: Bench, failing_s: float, next_in_s: float | None) -> None:
    """The row has caption, code and error, and no lease: a lease would keep the worker pool awake."""
    row_id = captioned_but_unwritten(bench)
    bench.rows.details(row_id).failing_s = failing_s
    bench.script.plan("write_metadata", StorageUnavailable("503"))
    assert bench.run(row_id) == Outcome("captioned", Due(next_in_s=next_in_s))
    gave_up = next_in_s is None
    assert bench.state(row_id) == (
        Status.CAPTIONED,
        "storage_unavailable" if gave_up else None,
        None if gave_up else Lease.HELD,
    )
    assert bench.rows.details(row_id).error == ("503" if gave_up else None)
    assert len(bench.captioner.requests) == 1


def test_the_end_of_a_write_back_that_another_child_has_taken_is_refused(bench: Bench) -> None:
    """The lease ran out during the PATCH: the other child ends the row."""
    row_id = bench.drop()

    def lose_the_lease() -> None:
        bench.wait()
        assert bench.rows.model.claim((1, "<CAPTION>"), "other/1")

    bench.store.meanwhile = lose_the_lease
    assert "refused" in bench.run(row_id).words
    row = bench.rows.row(row_id)
    assert (row.lease, row.claimed_by, row.written) == (Lease.HELD, "other/1", False)


@pytest.mark.parametrize("error", [ObjectGone("gone"), PermanentError("no")])
def test_a_permanent_error_ends_the_write_back(bench: Bench, error: DroplineError) -> None:
    """The row keeps the caption and gets code and words of the error."""
    row_id = bench.drop()
    bench.script.plan("write_metadata", error)
    assert bench.run(row_id) == CAPTIONED
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
    assert bench.run(row_id) == CAPTIONED
    assert bench.state(row_id) == (Status.CAPTIONED, outcome.code, None)
    assert (bench.rows.details(row_id).error, bench.rows.row(row_id).written) == (outcome.note, outcome.written)
