"""The breaker: which deaths of engines open it, what it gives back, and what closes it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from worker.breaker import DEATHS, MOST_GIVEN_BACK, Breaker, Change, EngineUse

#: Batches that engines die on, one after the other; each is a set of rows.
BATCHES = st.lists(st.sets(st.integers(1, 12), min_size=1, max_size=4), min_size=1, max_size=12)


def died(breaker: Breaker, engine: int, *rows: int) -> list[Change]:
    """The engine dies on a batch."""
    return [breaker.report(EngineUse(engine, row, lost=True)) for row in rows]


def captioned(breaker: Breaker, engine: int, row: int) -> Change:
    """The engine captions an image."""
    return breaker.report(EngineUse(engine, row, lost=False))


def opened() -> Breaker:
    """A breaker that deaths on rows 1 to 3 have opened, after all has been given back."""
    breaker = Breaker()
    for number in range(1, DEATHS + 1):
        died(breaker, number, number)
    assert breaker.is_open
    breaker.take_owed()
    return breaker


def test_deaths_on_different_images_in_a_row_open_the_breaker() -> None:
    """All attempts that the deaths took are given back, once."""
    breaker = Breaker()
    assert died(breaker, 1, 1, 2, 3, 4) == [Change.NOTHING] * 4
    assert died(breaker, 2, 1) + died(breaker, 3, 2) == [Change.NOTHING] * 2
    assert died(breaker, 4, 3) == [Change.OPENED]
    assert breaker.take_owed() == {1: 2, 2: 2, 3: 2, 4: 1}
    assert breaker.take_owed() == {}


def test_the_tasks_of_one_image_do_not_open_the_breaker() -> None:
    """Each task runs alone after the first death, and the image is the same."""
    breaker = Breaker()
    for engine, row in enumerate([1, 2, 3, 1, 2, 3], 1):
        assert breaker.report(EngineUse(engine, row, lost=True, image=77)) is Change.NOTHING
    assert breaker.take_owed() == {}


def test_a_caption_between_the_deaths_keeps_the_breaker_closed() -> None:
    """The deaths before the caption no longer count."""
    breaker = Breaker()
    died(breaker, 1, 1)
    died(breaker, 2, 2)
    assert captioned(breaker, 3, 9) is Change.NOTHING
    died(breaker, 4, 4)
    died(breaker, 5, 5)
    assert not breaker.is_open
    assert breaker.take_owed() == {}


@given(st.lists(st.tuples(st.sampled_from([101, 102]), st.sets(st.integers(1, 12), max_size=4)), max_size=12))
def test_two_images_that_kill_engines_never_open_the_breaker(batches: list[tuple[int, set[int]]]) -> None:
    """Whatever images share their batches."""
    breaker = Breaker()
    for engine, (killer, others) in enumerate(batches, 1):
        died(breaker, engine, killer, *others)
    assert not breaker.is_open


@given(BATCHES, BATCHES)
def test_an_open_breaker_gives_back_each_lost_attempt(before: list[set[int]], after: list[set[int]]) -> None:
    """From the first death on, whether it came before or after the opening."""
    breaker = Breaker()
    lost: Counter[int] = Counter()
    for engine, rows in enumerate([*before, {21}, {22}, {23}, *after], 1):
        died(breaker, engine, *rows)
        lost.update(rows)
    assert breaker.is_open
    assert breaker.take_owed() == lost


@given(BATCHES)
def test_a_closed_breaker_gives_nothing_back(batches: list[set[int]]) -> None:
    """An image that kills engines is set aside after its attempts."""
    breaker = Breaker()
    for engine, rows in enumerate(batches, 1):
        if Change.OPENED in died(breaker, engine, *rows):
            return
    assert breaker.take_owed() == {}


def test_one_caption_closes_the_breaker() -> None:
    """The deaths while it was open are given back, too."""
    breaker = opened()
    assert died(breaker, 4, 7, 8) == [Change.DIED_AGAIN, Change.NOTHING]
    assert captioned(breaker, 5, 9) is Change.CLOSED
    assert (breaker.is_open, breaker.take_owed()) == (False, {7: 1, 8: 1})


def test_a_late_report_of_an_earlier_engine_does_not_close_the_breaker() -> None:
    """That engine, or a later one, has died since."""
    breaker = opened()
    assert captioned(breaker, DEATHS - 1, 9) is Change.NOTHING
    assert captioned(breaker, DEATHS, 9) is Change.NOTHING
    assert breaker.is_open
    assert captioned(breaker, DEATHS + 1, 9) is Change.CLOSED


def test_three_images_that_kill_engines_open_the_breaker_once() -> None:
    """After a caption in between, the deaths on the same images count against them."""
    breaker = opened()
    captioned(breaker, 4, 9)
    for engine in range(5, 14):
        assert died(breaker, engine, 1 + engine % DEATHS) == [Change.NOTHING]
    assert breaker.take_owed() == {}


def test_images_that_kill_engines_and_no_other_are_set_aside_in_the_end() -> None:
    """No caption closes the breaker; after many attempts the next ones count."""
    breaker, owed = opened(), Counter[int]()
    for engine in range(4, 200):
        died(breaker, engine, engine % 3 + 1)
        owed.update(breaker.take_owed())
    assert breaker.is_open
    # One of each was given back when the breaker opened.
    assert owed == dict.fromkeys((1, 2, 3), MOST_GIVEN_BACK - 1)
    assert captioned(breaker, 200, 9) is Change.CLOSED
    for engine, row in enumerate((11, 12, 13), 201):
        died(breaker, engine, row)
    assert breaker.take_owed() == {11: 1, 12: 1, 13: 1}


def test_a_captioned_image_is_no_longer_suspected() -> None:
    """Its later loss, as when it is to be redone, is a sign of a broken engine again."""
    breaker = opened()
    for row in (9, 1, 2, 3):
        captioned(breaker, 4, row)
    for engine in (5, 6, 7):
        died(breaker, engine, engine - 4)
    assert breaker.is_open


def test_a_breaker_that_is_given_up_opens_after_a_caption_alone() -> None:
    """Until then attempts count, so that the rows end."""
    breaker = opened()
    breaker.give_up()
    for engine in range(4, 10):
        died(breaker, engine, engine)
    assert (breaker.is_open, breaker.take_owed()) == (False, {})
    captioned(breaker, 10, 99)
    for engine in range(11, 14):
        died(breaker, engine, engine)
    assert breaker.is_open


def test_attempts_that_were_not_given_back_are_owed_still() -> None:
    """Postgres was away."""
    breaker = opened()
    died(breaker, 4, 7)
    owed = breaker.take_owed()
    breaker.still_owe(owed)
    died(breaker, 5, 7)
    assert breaker.take_owed() == {7: 2}
