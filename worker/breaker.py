"""The circuit breaker of a worker, pure: an engine that dies on image after image is broken itself.

An attempt with the engine's death at the end counts against the image. Three such attempts set an image aside:
right for an image that kills engines, wrong for an engine that dies on every image. So the breaker opens after a
few deaths that no small number of images explains. While it is open, the worker tries one image at a time, after
growing pauses, and lost attempts are given back to their rows. The first caption closes the breaker.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

#: Deaths in a row to open the breaker. No two deaths have an image in common.
DEATHS = 3
#: Attempts given back to a row while a breaker is open. Where all due images kill engines, and there is no
#: reference image, no caption closes the breaker, and each probe would keep the GPU awake for another pause.
MOST_GIVEN_BACK = 20
#: Suspects remembered; the oldest are forgotten first.
_MOST_SUSPECTS = 10_000


_Image = tuple[int | None, int]


@dataclass(frozen=True, slots=True)
class EngineUse:
    """The result of an engine with an image."""

    #: Number of the engine, counted from 1 over the engines the worker has started.
    engine: int
    row_id: int
    #: True if the engine died at work on the image; false if the engine captioned the image.
    lost: bool
    #: The same number for all tasks of an image; None for a row alone with its image.
    image: int | None = None

    @property
    def of(self) -> _Image:
        """The key of the image."""
        return (None, self.row_id) if self.image is None else (self.image, 0)


class Change(Enum):
    """The effect of a report."""

    NOTHING = auto()
    OPENED = auto()
    #: An engine has died while the breaker was open.
    DIED_AGAIN = auto()
    CLOSED = auto()


class Breaker:
    """Decides from the uses of the engines whether the engine is broken."""

    def __init__(self) -> None:
        self.is_open = False
        #: Rows that each engine died on since the last caption, each with its image, by the number of the engine.
        self._deaths: dict[int, dict[int, _Image]] = {}
        #: Attempts to be given back, by row.
        self._owed: Counter[int] = Counter()
        #: Attempts given back since the breaker opened, by row.
        self._given_back: Counter[int] = Counter()
        #: Images with an attempt given back, and no caption since. A death on one of them is no sign of a broken
        #: engine: otherwise three images that kill engines would open the breaker again and again.
        self._suspects: dict[_Image, None] = {}
        self._exhausted = False

    def report(self, use: EngineUse) -> Change:
        """Take the use of an engine into account.

        Reports may arrive in any order. Where a report of a lost batch is late, the breaker may open without need,
        and the first probe closes it.
        """
        return self._died(use) if use.lost else self._captioned(use)

    def take_owed(self) -> dict[int, int]:
        """The attempts to give back since the last call: their number by row."""
        owed, self._owed = dict(self._owed), Counter()
        return owed

    def still_owe(self, attempts: Mapping[int, int]) -> None:
        """Put back the result of `take_owed`, which was not given back."""
        self._owed.update(attempts)

    def open(self) -> bool:
        """Open for events at other engines too; False if open or given up."""
        if self.is_open or self._exhausted:
            return False
        self.is_open = True
        for each in self._deaths.values():
            self._owe(each)
        return True

    def give_up(self) -> None:
        """Close without a caption; lost attempts count again, and the breaker stays closed until a caption."""
        self.is_open, self._exhausted = False, True
        self._deaths.clear()
        self._given_back.clear()

    def _died(self, use: EngineUse) -> Change:
        if self._exhausted:
            return Change.NOTHING
        rows = self._deaths.setdefault(use.engine, {})
        is_new = not rows
        rows[use.row_id] = use.of
        if self.is_open:
            self._owe({use.row_id: use.of})
            return Change.DIED_AGAIN if is_new else Change.NOTHING
        if self._different_deaths() < DEATHS:
            return Change.NOTHING
        self.open()
        return Change.OPENED

    def _captioned(self, use: EngineUse) -> Change:
        self._suspects.pop(use.of, None)
        self._exhausted = False
        # An engine that died after this caption, or a later engine, is not cleared by the caption.
        self._deaths = {engine: rows for engine, rows in self._deaths.items() if engine >= use.engine}
        if not self.is_open or self._deaths:
            return Change.NOTHING
        self.is_open = False
        self._given_back.clear()
        return Change.CLOSED

    def _owe(self, rows: Mapping[int, _Image]) -> None:
        for row_id, image in rows.items():
            self._suspects[image] = None
            if self._given_back[row_id] < MOST_GIVEN_BACK:
                self._given_back[row_id] += 1
                self._owed[row_id] += 1
        while len(self._suspects) > _MOST_SUSPECTS:
            del self._suspects[next(iter(self._suspects))]

    def _different_deaths(self) -> int:
        """Number of deaths without a common image, and so the smallest number of images that could explain them.

        The smallest batches first: an image of a lost batch runs alone from then on.
        """
        explained: set[_Image] = set()
        number = 0
        for images in sorted((set(rows.values()) for rows in self._deaths.values()), key=len):
            if explained.isdisjoint(images) and self._suspects.keys().isdisjoint(images):
                explained |= images
                number += 1
        return number
