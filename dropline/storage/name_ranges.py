"""Parts of a bucket's name space, to be listed at the same time. Pure.

Cloud Storage lists names in the order of their bytes in UTF-8, which is that of Python's strings.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
#: Most parts of one listing, and most short listings that look for them.
MOST_RANGES = 64
_MOST_PROBES = 100

#: The first two names from a name on, that name included if it exists.
NamesFrom = Callable[[str], list[str]]


def after_prefix(prefix: str) -> str | None:
    """The smallest text that is greater than each name with the prefix; None if there is none."""
    while prefix:
        following = _next_code_point(ord(prefix[-1]))
        if following is not None:
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


def _next_code_point(code: int) -> int | None:
    if code >= _LAST:
        return None
    return _SURROGATES.stop if code + 1 in _SURROGATES else code + 1


@dataclass(frozen=True, slots=True)
class NameRange:
    """Names from `start` to before `end`, and how far they have been read."""

    start: str
    #: None: to the last name.
    end: str | None
    #: The last name that was read; None: none was.
    after: str | None = None
    is_done: bool = False

    @property
    def offset(self) -> str:
        """The name at which a listing continues; the name itself may have been read."""
        return self.start if self.after is None else self.after

    @property
    def prefix(self) -> str:
        """The longest beginning of `start` that all names from `start` to before `end` share."""
        if self.end is None:
            return ""
        for length in range(len(self.start), 0, -1):
            bound = after_prefix(self.start[:length])
            if bound is not None and self.end <= bound:
                return self.start[:length]
        return ""

    def advanced(self, after: str | None, *, is_done: bool) -> Self:
        """The range after a batch whose last name is `after`; None: no name was read."""
        return type(self)(self.start, self.end, self.after if after is None else after, is_done)

    def as_list(self) -> list[Any]:
        """The range in JSON."""
        return [self.start, self.end, self.after, self.is_done]

    @classmethod
    def from_list(cls, values: list[Any]) -> Self:
        """The range of `as_list`."""
        start, end, after, is_done = values
        return cls(start, end, after, is_done)

    def part_read(self) -> float:
        """An estimate from 0 to 1, as if names were spread evenly over the range."""
        if self.is_done:
            return 1.0
        if self.after is None or self.end is None:
            return 0.0
        low, high = _position(self.start, self.end, self.start), _position(self.start, self.end, self.end)
        return min(1.0, max(0.0, (_position(self.start, self.end, self.after) - low) / max(high - low, 1e-300)))


def _position(start: str, end: str, name: str) -> float:
    """The bytes behind the common beginning of `start` and `end`, as digits of a number."""
    common = 0
    one, other, text = start.encode(), end.encode(), name.encode()
    while common < min(len(one), len(other)) and one[common] == other[common]:
        common += 1
    return sum(byte / 256 ** (place + 1) for place, byte in enumerate(text[common : common + 6]))


def plan_ranges(prefix: str, names_from: NamesFrom) -> list[NameRange]:
    """Cut the names with a prefix where the next character differs: each name is in exactly one range.

    A short listing finds each next character. While there is one alone, it becomes a part of the prefix.

    Args:
        prefix: of all names; empty: the whole bucket.
        names_from: a short listing of the names with the prefix.
    """
    end = after_prefix(prefix)
    starts = _branches(prefix, names_from)
    bounds = [prefix, *starts[1:]]
    return [NameRange(start, stop) for start, stop in zip(bounds, [*bounds[1:], end], strict=True)]


def _branches(stem: str, names_from: NamesFrom) -> list[str]:
    """The beginnings of names at the first place where these differ."""
    probes = 0
    while True:
        found: list[str] = []
        at: str | None = stem
        while at is not None and len(found) < MOST_RANGES:
            if probes >= _MOST_PROBES:
                return found
            probes += 1
            # A name that is the stem itself belongs to the first range.
            name = next((each for each in names_from(at) if len(each) > len(stem)), None)
            if name is None or not name.startswith(stem):
                break
            found.append(name[: len(stem) + 1])
            at = _after_in_stem(stem, found[-1])
        if len(found) != 1:
            return found
        stem = found[0]


def _after_in_stem(stem: str, branch: str) -> str | None:
    following = _next_code_point(ord(branch[-1]))
    return None if following is None else stem + chr(following)
