"""The cap on rows per second, by a clock moved by hand; and calls that are not made for each batch."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from operations.pacing import Pacer, Spaced


class Clock:
    """A clock that a sleep moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@given(
    rate=st.floats(0.01, 5000),
    steps=st.lists(st.tuples(st.floats(0, 3), st.integers(0, 500)), min_size=1, max_size=60),
)
def test_no_second_has_more_rows_than_the_rate_and_one_batch(rate: float, steps: list[tuple[float, int]]) -> None:
    """Whatever the sizes of the batches and the times between them."""
    clock = Clock()
    pacer = Pacer(rate, clock.time, clock.sleep)
    inserted: list[tuple[float, int]] = []
    for pause_s, wanted in steps:
        clock.now += pause_s
        rows = min(wanted, pacer.most(500))
        pacer.wait()
        pacer.spend(rows)
        inserted.append((clock.now, rows))
    for start, _ in inserted:
        within = [rows for at, rows in inserted if start <= at < start + 1]
        assert sum(within) <= rate + max(within) + 1e-6 * rate


def test_batches_follow_each_other_at_the_rate() -> None:
    """Ten rows a second, in batches of four: a batch each 0.4 s, and nothing is made up for after a pause."""
    clock = Clock()
    pacer = Pacer(10, clock.time, clock.sleep)
    for _ in range(3):
        pacer.wait()
        pacer.spend(4)
    assert clock.slept == [pytest.approx(0.4), pytest.approx(0.4)]
    clock.now += 60
    pacer.wait()
    pacer.spend(4)
    pacer.wait()
    assert clock.slept[2:] == [pytest.approx(0.4)]


def test_rows_that_exist_cost_no_time() -> None:
    """A second run over a million objects does not wait."""
    clock = Clock()
    pacer = Pacer(1, clock.time, clock.sleep)
    for _ in range(10):
        pacer.wait()
        pacer.spend(0)
    assert clock.slept == []


def test_a_batch_has_the_rows_of_a_tenth_of_a_second() -> None:
    """And one row at least; without a rate, a whole batch."""
    assert [Pacer(rate).most(500) for rate in (None, 0.1, 10.9, 109, 1000, 9999)] == [500, 1, 1, 10, 100, 500]


def test_behind_rows_that_exist_a_batch_has_the_rows_of_a_second() -> None:
    """Until one is new again: the million objects of a second run are not read one by one."""
    clock = Clock()
    pacer = Pacer(70, clock.time, clock.sleep)
    sizes = []
    for rows in (7, 0, 0, 70, 7):
        sizes.append(pacer.most(500))
        pacer.spend(rows)
    assert sizes == [7, 7, 70, 70, 7]


def test_a_spaced_call_is_made_at_once_then_rarely_and_at_the_end() -> None:
    """The last of the left ones is made by `flush`, once."""
    clock, calls = Clock(), list[int]()
    spaced = Spaced(calls.append, 10, clock.time)
    for row_id in range(1, 6):
        spaced(row_id)
        clock.now += 4
    assert calls == [1, 4]
    spaced.flush()
    spaced.flush()
    assert calls == [1, 4, 5]
