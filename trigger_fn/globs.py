"""Globs over object names: `*` and `?` stay within one level, `**` crosses levels."""

import fnmatch
import re
from collections.abc import Iterable, Sequence

from dropline.errors import SettingsError

_ANY_DEPTH = None
_Part = re.Pattern[str] | None


class Globs:
    """A set of globs, compiled once.

    A glob is cut at its slashes. `**`, alone between slashes, stands for any number of levels, none included;
    every other part is a pattern of `fnmatch` (`*`, `?`, `[a-z]`, `[!a-z]`) for exactly one level. Case matters.

    Names are untrusted, so matching backs up to the last `**` only: the work is bounded by the name's length times
    the number of the glob's parts.

    Raises:
        SettingsError: a `**` is glued to something else.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs = [[_part(part, glob) for part in glob.split("/")] for glob in globs]

    def match(self, name: str) -> bool:
        """Whether one of the globs matches the whole name."""
        levels = name.split("/")
        return any(_matches(glob, levels) for glob in self._globs)


def _part(part: str, glob: str) -> _Part:
    if part == "**":
        return _ANY_DEPTH
    if "**" in part:
        raise SettingsError(
            f"the glob {glob!r} has a ** that is not alone between slashes; write **/*.jpg, not **.jpg"
        )
    return re.compile(fnmatch.translate(part))


def _matches(glob: Sequence[_Part], levels: Sequence[str]) -> bool:
    """The usual walk for one kind of wildcard: what an earlier `**` took never has to be taken back."""
    part = level = 0
    retry: tuple[int, int] | None = None
    while level < len(levels):
        if part < len(glob) and glob[part] is _ANY_DEPTH:
            part += 1
            retry = (part, level)
        elif part < len(glob) and _fits(glob[part], levels[level]):
            part, level = part + 1, level + 1
        elif retry is not None:
            part, level = retry[0], retry[1] + 1
            retry = (part, level)
        else:
            return False
    return all(rest is _ANY_DEPTH for rest in glob[part:])


def _fits(part: _Part, level: str) -> bool:
    return part is not None and part.match(level) is not None
