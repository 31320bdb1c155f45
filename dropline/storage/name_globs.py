"""Globs of Cloud Storage's listings, for servers that do not have them, such as the emulator. Pure.

`*` and `?` match within a level, `**` across levels, `[a-z]` and `[!a-z]` one character, `{a,b}` one of several
texts; `**/` matches no level too. `[*]` is an asterisk.
"""

import functools
import re

from dropline.errors import ClientError

_SPECIAL = re.compile(r"[*?\[{]")
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|[{},]|.", re.DOTALL)
_FIXED = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def literal_prefix(pattern: str) -> str:
    """The text before the first special character: all names that match begin with it."""
    found = _SPECIAL.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def is_glob(pattern: str) -> bool:
    """Whether the text has a special character."""
    return _SPECIAL.search(pattern) is not None


@functools.lru_cache(maxsize=16)
def compile_glob(pattern: str) -> re.Pattern[str]:
    """A regular expression for whole names.

    Raises:
        ClientError: a bracket or a brace is not closed.
    """
    depth = 0
    parts = []
    for piece in _PIECE.findall(pattern):
        if piece == "{":
            depth += 1
            parts.append("(?:")
        elif piece == "}" and depth:
            depth -= 1
            parts.append(")")
        elif piece == "[":
            raise _unreadable(pattern, "a bracket is not closed")
        else:
            parts.append("|" if piece == "," and depth else _FIXED.get(piece) or _set_or_text(piece))
    if depth:
        raise _unreadable(pattern, "a brace is not closed")
    try:
        return re.compile("".join(parts), re.DOTALL)
    except re.error as error:
        raise _unreadable(pattern, str(error)) from None


def _unreadable(pattern: str, reason: str) -> ClientError:
    return ClientError(
        f"the glob {pattern!r} cannot be read: {reason}; write [[] for a bracket and [{{] for a brace"
    )


def _set_or_text(piece: str) -> str:
    if len(piece) == 1:
        return re.escape(piece)
    negated = piece.startswith("[!")
    inner = re.sub(r"([\\\[\]^&~|])", r"\\\1", piece[2 if negated else 1 : -1])
    return f"[{'^/' if negated else ''}{inner}]"
