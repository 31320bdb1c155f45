"""The board of a worker: which engines are ready, which are tried, and which engine each child uses.

Shared memory that the parent makes before it forks the children. The parent writes the states of the engines, and
each child its own place. Every entry is one aligned integer, so no reader sees half of a value, and there is no
lock. Two children that choose at the same moment may choose the same engine, which has one image more for a while.
"""

import mmap
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

_FREE = -1


class Trust(IntEnum):
    """What the breaker of an engine says."""

    CLOSED = 0
    #: The engine gets no image.
    OPEN = 1
    #: The engine gets one image.
    PROBE = 2


class Board:
    """States of the engines and their uses."""

    def __init__(self, engines: int, children: int) -> None:
        """All engines are away, all breakers are closed, and no child uses an engine."""
        self._engines = range(engines)
        entries = np.dtype(np.int32)
        self._memory = mmap.mmap(-1, (2 * engines + 2 * children) * entries.itemsize)
        every: NDArray[np.int32] = np.frombuffer(self._memory, entries)
        self._ready, self._trust = every[:engines], every[engines : 2 * engines]
        #: Process id and engine of each child, by the child's place.
        self._pids, self._uses = every[2 * engines :].reshape(2, children)
        self._uses.fill(_FREE)

    def set_ready(self, engine: int, *, ready: bool) -> None:
        """Note that an engine has loaded its model, or has ended."""
        self._ready[engine] = ready

    def set_trust(self, engine: int, trust: Trust) -> None:
        """Note what the breaker of an engine says."""
        self._trust[engine] = trust

    def is_ready(self, engine: int) -> bool:
        """True if the engine has loaded its model."""
        return bool(self._ready[engine])

    def is_tried(self, engine: int) -> bool:
        """True if the breaker of the engine is open, and lets one image pass."""
        return bool(self._trust[engine] == Trust.PROBE)

    def best(self, place: int) -> int:
        """The engine for a child's next image: ready, trusted, with the fewest images; the place breaks ties."""
        return min(self._engines, key=lambda engine: (*self._rank(engine), (engine - place) % len(self._engines)))

    def take(self, place: int, pid: int) -> int:
        """Choose the best engine and note the use of this child."""
        engine = self.best(place)
        self._pids[place] = pid
        self._uses[place] = engine
        return engine

    def release(self, place: int) -> None:
        """Note that the child uses no engine."""
        self._uses[place] = _FREE

    def forget(self, pid: int) -> None:
        """Release the place of a dead child. Its successor cannot have it yet: the parent forks after this."""
        self._uses[self._pids == pid] = _FREE

    def load(self, engine: int) -> int:
        """Number of children that use the engine."""
        return int(np.count_nonzero(self._uses == engine))

    def _rank(self, engine: int) -> tuple[int, int]:
        load, trust, ready = self.load(engine), self._trust[engine], self._ready[engine]
        if trust == Trust.PROBE and not load:
            return (0 if ready else 3), load
        if trust == Trust.CLOSED:
            return (1 if ready else 2), load
        return 4, load
