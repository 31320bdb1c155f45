"""Snapshots of Postgres as values: which transactions a reader has seen. Pure.

A snapshot is the text of `pg_current_snapshot()`: `xmin:xmax:running`. Every transaction below xmin had ended,
none from xmax on had begun, and the listed ones between were running. Of two snapshots the later one sees all that
the earlier one sees.
"""

import re
from dataclasses import dataclass
from typing import Self

_TEXT = re.compile(r"(\d{1,19}):(\d{1,19}):(\d{1,19}(?:,\d{1,19})*)?", re.ASCII)
_LARGEST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The transactions that were visible at one moment."""

    xmin: int
    xmax: int
    #: Transactions between xmin and xmax that were running.
    running: frozenset[int] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of Postgres; untrusted.

        Raises:
            ValueError: the text is no snapshot.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError("not a snapshot")
        xmin, xmax = int(match[1]), int(match[2])
        running = frozenset(map(int, match[3].split(","))) if match[3] else frozenset()
        if not 0 < xmin <= xmax <= _LARGEST or not all(xmin <= each < xmax for each in running):
            raise ValueError("not a snapshot")
        return cls(xmin, xmax, running)

    def __str__(self) -> str:
        return f"{self.xmin}:{self.xmax}:{','.join(map(str, sorted(self.running)))}"

    def sees(self, transaction: int) -> bool:
        """True if the transaction had ended at the moment of the snapshot."""
        return transaction < self.xmin or (transaction < self.xmax and transaction not in self.running)

    def is_after(self, other: "Snapshot") -> bool:
        """True if this snapshot sees a transaction that `other` does not see; both are of the same server."""
        return (self.xmax, -len(self.running)) > (other.xmax, -len(other.running))
