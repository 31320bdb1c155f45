"""Iterators read in threads, a few parts ahead of their reader."""

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part(Generic[T]):
    """A part of an iterator, or the end."""

    #: Number of the iterator.
    source: int
    #: None: the iterator has ended.
    value: T | None
    error: BaseException | None = None


def read_ahead(
    sources: Sequence[Callable[[], Iterator[T]]], *, threads: int, parts: int
) -> Generator[Part[T], None, None]:
    """The parts of all iterators; the parts of an iterator in order, with the end as the last.

    Args:
        sources: each makes an iterator, in a thread.
        threads: iterators read at the same time.
        parts: that are in memory at a time, at most; more than `threads`.

    Raises:
        The first error of an iterator.
    """
    found: SimpleQueue[Part[T]] = SimpleQueue()
    free = threading.Semaphore(parts)
    stopped = threading.Event()

    def read(number: int, source: Callable[[], Iterator[T]]) -> None:
        try:
            iterator = source()
            while True:
                free.acquire()
                if stopped.is_set():
                    return
                value = next(iterator, None)
                found.put(Part(number, value))
                if value is None:
                    return
        except BaseException as error:  # noqa: BLE001 - raised by the reader
            found.put(Part(number, None, error))

    with ThreadPoolExecutor(threads, thread_name_prefix="read-ahead") as pool:
        for number, source in enumerate(sources):
            pool.submit(read, number, source)
        try:
            for _ in range(len(sources)):
                yield from _until_end(found, free)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            free.release(len(sources) + threads)


def _until_end(found: "SimpleQueue[Part[T]]", free: threading.Semaphore) -> Iterator[Part[T]]:
    """The parts up to the end of an iterator."""
    while True:
        part = found.get()
        if part.error is not None:
            raise part.error
        yield part
        free.release()
        if part.value is None:
            return
