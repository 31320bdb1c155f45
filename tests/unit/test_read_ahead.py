"""Iterators that are read in threads: order, memory, errors and an early end."""

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from operations.read_ahead import read_ahead


def test_all_parts_come_in_the_order_of_their_iterator_with_an_end() -> None:
    """More iterators than threads."""
    sources = [lambda number=number: iter([f"{number}-{part}" for part in range(number)]) for number in range(12)]
    parts = list(read_ahead(sources, threads=3, parts=4))
    for number in range(12):
        values = [part.value for part in parts if part.source == number]
        assert values == [*(f"{number}-{part}" for part in range(number)), None]


def test_no_more_parts_are_read_than_are_allowed() -> None:
    """A slow reader does not fill the memory: the iterators wait."""
    read = threading.Semaphore(0)
    count = 0

    def endless() -> Iterator[int]:
        nonlocal count
        while True:
            count += 1
            read.release()
            yield count

    with closing(read_ahead([endless], threads=1, parts=3)) as parts:
        next(parts)
        for _ in range(3):
            assert read.acquire(timeout=60)
        assert count == 3
        for _ in range(10):
            next(parts)
        assert count <= 10 + 1 + 3


def test_an_error_of_an_iterator_is_raised_and_ends_the_others() -> None:
    """No thread stays."""

    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("no page")

    def endless() -> Iterator[int]:
        while True:
            yield 0

    before = threading.active_count()
    with pytest.raises(ValueError, match="no page"):
        list(read_ahead([endless, broken, endless], threads=3, parts=4))
    assert threading.active_count() == before


def test_a_reader_may_end_early() -> None:
    """Iterators that wait for memory, and those that have not begun, end too."""
    before = threading.active_count()
    sources = [lambda: iter(range(1000)) for _ in range(20)]
    with closing(read_ahead(sources, threads=4, parts=5)) as parts:
        assert next(parts).value == 0
    assert threading.active_count() == before
