"""Snapshots of Postgres: what they see, and their order."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.snapshot import Snapshot


@st.composite
def histories(draw: st.DrawFn) -> list[Snapshot]:
    """The snapshots after each step of a few transactions that begin and end in any order."""
    running: set[int] = set()
    upcoming = 10
    snapshots = []
    for begins in draw(st.lists(st.booleans(), min_size=1, max_size=12)):
        if begins or not running:
            running.add(upcoming)
            upcoming += 1
        else:
            running.remove(draw(st.sampled_from(sorted(running))))
        snapshots.append(Snapshot(min(running, default=upcoming), upcoming, frozenset(running)))
    return snapshots


@given(histories())
def test_a_later_snapshot_sees_all_that_an_earlier_one_sees(snapshots: list[Snapshot]) -> None:
    """The order by xmax and the number of running transactions is the order of the moments."""
    for earlier, later in itertools.pairwise(snapshots):
        seen = [each for each in range(30) if earlier.sees(each)]
        assert all(later.sees(each) for each in seen)
        assert later.is_after(earlier) or later == earlier
        assert not earlier.is_after(later)


@given(histories())
def test_the_text_is_that_of_postgres(snapshots: list[Snapshot]) -> None:
    """Written and read again."""
    assert [Snapshot.parse(str(each)) for each in snapshots] == snapshots


def test_a_snapshot_sees_ended_transactions_alone() -> None:
    """Those below xmin, and those between that were not running."""
    snapshot = Snapshot.parse("10:14:10,12")
    assert [each for each in range(8, 16) if snapshot.sees(each)] == [8, 9, 11, 13]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1:2",
        "2:1:",
        "0:1:",
        "1:2:2",
        "2:4:1",
        "1:2:a",
        "1:2:1,",
        "-1:2:",
        "1:9223372036854775808:",
        "١:٢:",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """A client may send anything as its last event."""
    with pytest.raises(ValueError, match="not a snapshot"):
        Snapshot.parse(text)
