"""Blocking calls of the gallery, in a fixed number of threads; the event loop is never blocked."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from gallery.limits import Overloaded

T = TypeVar("T")

#: Most calls that wait for a thread.
_MOST_WAITING = 200
#: Longest time of a request in seconds, with its wait for a thread; a call of a frozen Postgres takes less.
REQUEST_S = 15.0


def set_threads(count: int) -> None:
    """Set the number of threads of this event loop, for the calls here and for routes that are plain functions."""
    to_thread.current_default_thread_limiter().total_tokens = count


@asynccontextmanager
async def within(limit_s: float) -> AsyncIterator[None]:
    """Ends the block after a time; raises Overloaded then."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise Overloaded(f"Postgres or Cloud Storage did not answer within {limit_s:g} s; try again") from None


async def in_thread(
    call: Callable[[], T], limiter: CapacityLimiter | None = None, limit_s: float = REQUEST_S
) -> T:
    """The result of a blocking call.

    Args:
        call: without arguments.
        limiter: of a kind of calls with threads of its own.
        limit_s: longest time, in seconds, with the wait for a thread.

    Raises:
        Overloaded: too many calls wait for a thread, or the time has passed.
    """
    chosen = limiter or to_thread.current_default_thread_limiter()
    if chosen.statistics().tasks_waiting >= _MOST_WAITING:
        raise Overloaded("too many requests wait for Postgres or Cloud Storage; try again")
    async with within(limit_s):
        return await to_thread.run_sync(call, limiter=chosen)
