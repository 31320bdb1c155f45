"""Globs of Cloud Storage's listings, for servers that do not have them, such as the emulator. Pure.

`*` and `?` match within a level, `**` across levels, `[a-z]` and `[!a-z]` one character, `{a,b}` one of several
texts; `**/` matches no level too. `[*]` is an asterisk.
"""

import functools
import re

import regex

from dropline.errors import ClientError

_SPECIAL = re.compile(r"[*?\[{]")
_PIECE = re.compile(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|[{},]|.", re.DOTALL)
#: Most nested braces.
_DEEPEST = 8
#: Longest time for one name, in seconds.
_LONGEST_S = 1.0
_FIXED = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def literal_prefix(pattern: str) -> str:
    """The text before the first special character: all names that match begin with it."""
    found = _SPECIAL.search(pattern)
    return pattern if found is None else pattern[: found.start()]


def is_glob(pattern: str) -> bool:
    """Whether the text has a special character."""
    return _SPECIAL.search(pattern) is not None


def matches(pattern: str, name: str) -> bool:
    """Whether a glob matches a whole name.

    Raises:
        ClientError: the glob cannot be read, or the search takes too long: a stranger may have written both texts.
    """
    try:
        return compile_glob(pattern).fullmatch(name, concurrent=True, timeout=_LONGEST_S) is not None
    except TimeoutError:
        raise ClientError(
            f"the glob {pattern!r} takes longer than {_LONGEST_S:g} s for the name {name!r}; use fewer asterisks"
        ) from None


@functools.lru_cache(maxsize=16)
def compile_glob(pattern: str) -> "regex.Pattern[str]":
    """A regular expression for whole names.

    Raises:
        ClientError: a bracket or a brace is not closed, or braces are nested too deeply.
    """
    depth = 0
    parts = []
    for piece in _PIECE.findall(pattern):
        if piece == "{":
            depth += 1
            if depth > _DEEPEST:
                raise _unreadable(pattern, f"more than {_DEEPEST} braces are nested")
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
        return regex.compile("".join(parts), regex.DOTALL)
    except regex.error as error:
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
