"""Blocking calls of the gallery, in a fixed number of threads; the event loop is never blocked."""

from collections.abc import Callable
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from gallery.limits import Overloaded

T = TypeVar("T")

#: Most calls that wait for a thread.
_MOST_WAITING = 200


def set_threads(count: int) -> None:
    """Set the number of threads of this event loop, for the calls here and for routes that are plain functions."""
    to_thread.current_default_thread_limiter().total_tokens = count


async def in_thread(call: Callable[[], T], limiter: CapacityLimiter | None = None) -> T:
    """The result of a blocking call.

    Args:
        call: without arguments.
        limiter: of a kind of calls with threads of its own.

    Raises:
        Overloaded: too many calls wait for a thread.
    """
    chosen = limiter or to_thread.current_default_thread_limiter()
    if chosen.statistics().tasks_waiting >= _MOST_WAITING:
        raise Overloaded("too many requests wait for Postgres or Cloud Storage; try again")
    return await to_thread.run_sync(call, limiter=chosen)
