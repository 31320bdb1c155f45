"""The checks of the chaos run: each check can fail."""

import dataclasses
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.plan import CONTROL, MEDIUM, SHORT, Content, Dose, Fault, Upload, make_plan, most_repeated
from tests.chaos.verdict import Aftermath, judge

OLD = Upload("a.png", Content.IMAGE, 1, repeated=False)
NEW = Upload("a.png", Content.IMAGE, 2, repeated=False)
WORDS = Upload("b.png", Content.WORDS, 3, repeated=False)
DEADLY = Upload("c.png", Content.DEADLY, 0xFF0000, repeated=False)


def _row(row_id: int, generation: int, status: str, caption: str | None = None, **more: Any) -> dict[str, Any]:
    usual = {"error_code": None, "lease_until": None}
    return {"id": row_id, "generation": generation, "status": status, "caption": caption} | usual | more


GOOD = Aftermath(
    uploads={11: OLD, 12: NEW, 13: WORDS, 14: DEADLY},
    rows=[
        _row(1, 11, "superseded"),
        _row(2, 12, "captioned", "000002"),
        _row(3, 13, "failed", error_code="not_an_image"),
        _row(4, 14, "failed", error_code="engine_lost"),
    ],
    metadata={"a.png": {"caption": "000002"}, "b.png": {}, "c.png": {}},
    messages=[],
    unacknowledged=0,
    inferences=["000002", "ff0000", "ff0000", "ff0000"],
)


def _with_row(place: int, **changes: Any) -> Aftermath:
    rows = [row | (changes if number == place else {}) for number, row in enumerate(map(dict, GOOD.rows))]
    return dataclasses.replace(GOOD, rows=rows)


def test_what_is_as_it_should_be_passes() -> None:
    """Correct ends of all rows are no fault."""
    verdict = judge(GOOD, 0)
    assert verdict.faults == []
    assert verdict.counts["inferences"] == 1


def test_an_older_version_may_have_been_captioned_in_time() -> None:
    """An older version may have the caption of the older image, with or without the write-back."""
    assert judge(_with_row(0, status="captioned", caption="000001"), 0).faults == []
    assert judge(_with_row(0, status="captioned", caption="000001", error_code="object_gone"), 0).faults == []
    assert len(judge(_with_row(0, status="captioned", caption="000002"), 0).faults) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: dataclasses.replace(GOOD, rows=GOOD.rows[1:]),
        lambda: dataclasses.replace(GOOD, rows=[*GOOD.rows, _row(5, 12, "captioned", "000002")]),
        lambda: dataclasses.replace(GOOD, rows=[*GOOD.rows, _row(5, 99, "captioned", "000002")]),
        lambda: _with_row(1, status="superseded"),
        lambda: _with_row(1, status="deleted"),
        lambda: _with_row(1, status="failed", caption=None, error_code="worker_lost"),
        lambda: _with_row(1, caption="000001"),
        lambda: _with_row(1, error_code="object_gone"),
        lambda: _with_row(2, error_code="worker_lost"),
        lambda: dataclasses.replace(GOOD, inferences=[*GOOD.inferences, "000002"]),
        lambda: _with_row(1, lease_until="soon"),
        lambda: _with_row(2, status="captioned", caption="000003", error_code=None),
        lambda: _with_row(2, error_code="decode_failed"),
        lambda: dataclasses.replace(GOOD, metadata={**GOOD.metadata, "a.png": {"caption": "000001"}}),
        lambda: dataclasses.replace(GOOD, metadata={**GOOD.metadata, "a.png": {}}),
        lambda: dataclasses.replace(GOOD, metadata={**GOOD.metadata, "b.png": {"caption": "000003"}}),
    ],
)
def test_one_thing_wrong_is_one_fault(wrong: Callable[[], Aftermath]) -> None:
    """A lost, second or foreign row, and a wrong status, caption, lease or metadata, are one fault each."""
    assert len(judge(wrong(), 0).faults) == 1


@pytest.mark.parametrize("status", ["queued", "running"])
def test_an_unfinished_row_is_told_with_what_is_left_on_the_broker(status: str) -> None:
    """An unfinished row is a wrong end, and is reported again with the messages left on the broker."""
    faults = judge(dataclasses.replace(_with_row(1, status=status, caption=None), messages=[2]), 0).faults
    assert len(faults) == 2
    assert faults[1] == "rows [2] are unfinished; on the broker: [2]"


def test_as_much_work_is_repeated_as_the_deaths_explain() -> None:
    """A further inference beyond the explained number is a fault."""
    found = dataclasses.replace(GOOD, inferences=["000002"] * 3)
    assert judge(found, 2).faults == []
    assert judge(found, 1).faults == ["2 inferences beyond one an image; the deaths explain 1 at most"]


def test_deaths_explain_what_was_in_hand() -> None:
    """A dead child repeats an image, a dead worker or engine an image per child; an outage, all at each limit."""
    assert most_repeated([OLD, WORDS, Fault.REDIS_LOST, Fault.WORKER_STOPPED], 2, 3) == 0
    assert most_repeated([Fault.CHILD_KILLED, Fault.WORKER_KILLED, Fault.ENGINE_KILLED], 2, 3) == 7
    assert most_repeated([DEADLY, Fault.POSTGRES_RESTARTED], 2, 3, lost_with_engines=3) == 9
    assert most_repeated([Fault.DISK_FULL, Fault.ALL_LOST], 2, 3, outages=4) == 30


@pytest.mark.parametrize("dose", [SHORT, MEDIUM, Dose()])
def test_a_plan_holds_its_dose(dose: Dose) -> None:
    """A plan has every object, the configured faults, and a colour per image, and is the same for a seed."""
    plan = make_plan(dose, random.Random(7))
    assert plan == make_plan(dose, random.Random(7))
    uploads = [step for step in plan if isinstance(step, Upload)]
    assert Counter(step for step in plan if isinstance(step, Fault)) == Counter(dict(dose.faults)) + Counter(
        [*dose.at_start, *dose.at_end]
    )
    assert {upload.name for upload in uploads} == {f"{number:05}.png" for number in range(dose.objects)}
    colors = [upload.color for upload in uploads if upload.content is not Content.DEADLY]
    assert len(colors) == len(set(colors))
    assert {upload.content for upload in uploads} == set(Content)
    assert 0.05 < len(uploads) / dose.objects - 1 < 0.15
    assert 0.1 < sum(upload.repeated for upload in uploads) / len(uploads) < 0.3


def test_the_whole_run_has_every_fault_and_two_hundred() -> None:
    """The whole and the medium run have each kind of fault, the whole one 200 at least."""
    for dose in (MEDIUM, Dose()):
        assert {fault for fault, _ in dose.faults} | {*dose.at_end} == set(Fault)
    assert sum(times for _, times in Dose().faults) >= 200
    assert make_plan(CONTROL, random.Random(1))[-1] is Fault.ALL_LOST
