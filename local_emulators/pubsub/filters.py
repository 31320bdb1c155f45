"""Pub/Sub's subscription filter language: text in, a predicate over a message's attributes out. Pure.

    expression := term (AND term)* | term (OR term)*
    term       := (NOT | -)* ( "(" expression ")" | comparison )
    comparison := attributes:KEY | attributes.KEY = "V" | attributes.KEY != "V" | hasPrefix(attributes.KEY, "V")
    KEY        := letters, digits, "_" and "-", or any string in double quotes

Source: https://cloud.google.com/pubsub/docs/subscription-message-filter. In cases
left open by the page (AND mixed with OR, operators in lower case, other quotes) the parser refuses the filter, so
every accepted filter works in Pub/Sub too.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: The longest filter, in bytes of UTF-8.
MAX_FILTER_BYTES = 256

Attributes = Mapping[str, str]
Predicate = Callable[[Attributes], bool]

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\\n]|\\.)*") | (?P<word>[A-Za-z0-9_][A-Za-z0-9_-]*) | (?P<symbol>!=|[=:.(),-])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(
    r"\\(?:u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|x(?P<x>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})|(?P<char>.))"
)
_SIMPLE_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "`": "`", "?": "?",
}  # fmt: skip
_RESERVED = frozenset({"AND", "OR", "NOT"})


class InvalidFilter(ValueError):
    """The text is not a filter; the message has the position and the reason."""


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    position: int


def parse_filter(text: str) -> Predicate:
    """Compile a filter; an empty text matches every message. Raises InvalidFilter."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > MAX_FILTER_BYTES:
        raise InvalidFilter(f"the filter has {size} bytes, at most {MAX_FILTER_BYTES} are allowed; shorten it")
    if not text:
        return lambda _attributes: True
    return _Parser(_tokenize(text)).parse()


def _tokenize(text: str) -> list[_Token]:
    tokens = []
    position = _skip_space(text, 0)
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise InvalidFilter(f"unexpected {text[position]!r} at position {position}")
        kind = str(match.lastgroup)
        raw = match.group()
        tokens.append(_Token(kind, _unquote(raw, position) if kind == "string" else raw, position))
        position = _skip_space(text, match.end())
    return [*tokens, _Token("end", "the end of the filter", position)]


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _unquote(literal: str, position: int) -> str:
    def replace(match: re.Match[str]) -> str:
        char = match["char"]
        if char is None:
            return _code_point(match)
        if char not in _SIMPLE_ESCAPES:
            raise InvalidFilter(f"unknown escape {match.group()!r} in the string at position {position}")
        return _SIMPLE_ESCAPES[char]

    return _ESCAPE.sub(replace, literal[1:-1])


def _code_point(match: re.Match[str]) -> str:
    octal = match["octal"]
    value = int(octal, 8) if octal else int(match["u"] or match["U"] or match["x"], 16)
    if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
        raise InvalidFilter(f"escape {match.group()!r} is not a Unicode character")
    return chr(value)


class _Parser:
    """Recursive descent; the 256-byte limit bounds the depth."""

    def __init__(self, tokens: Sequence[_Token]) -> None:
        self._tokens = tokens
        self._index = 0

    def parse(self) -> Predicate:
        predicate = self._expression()
        if self._current.kind != "end":
            raise self._unexpected("AND, OR or the end of the filter")
        return predicate

    def _expression(self) -> Predicate:
        terms = [self._term()]
        operator = ""
        while self._current.kind == "word" and self._current.text in ("AND", "OR"):
            word = self._next().text
            if operator not in ("", word):
                raise InvalidFilter("AND and OR are mixed; add parentheses")
            operator = word
            terms.append(self._term())
        return _any_of(terms) if operator == "OR" else _all_of(terms)

    def _term(self) -> Predicate:
        negated = False
        while self._accept("NOT") or self._accept("-"):
            negated = not negated
        predicate = self._group() if self._accept("(") else self._comparison()
        return _negation(predicate) if negated else predicate

    def _group(self) -> Predicate:
        predicate = self._expression()
        self._expect(")")
        return predicate

    def _comparison(self) -> Predicate:
        if self._accept("hasPrefix"):
            return self._has_prefix()
        self._expect("attributes")
        if self._accept(":"):
            return _has_key(self._key())
        self._expect(".")
        key = self._key()
        if self._accept("="):
            return _equals(key, self._string())
        if self._accept("!="):
            return _negation(_equals(key, self._string()))
        raise self._unexpected("= or !=")

    def _has_prefix(self) -> Predicate:
        for text in ("(", "attributes", "."):
            self._expect(text)
        key = self._key()
        self._expect(",")
        prefix = self._string()
        self._expect(")")
        return _starts_with(key, prefix)

    def _key(self) -> str:
        token = self._current
        if token.kind not in ("word", "string") or (token.kind == "word" and token.text in _RESERVED):
            raise self._unexpected("an attribute key")
        return self._next().text

    def _string(self) -> str:
        if self._current.kind != "string":
            raise self._unexpected("a string in double quotes")
        return self._next().text

    @property
    def _current(self) -> _Token:
        return self._tokens[self._index]

    def _next(self) -> _Token:
        token = self._current
        self._index += 1
        return token

    def _accept(self, text: str) -> bool:
        matches = self._current.kind in ("word", "symbol") and self._current.text == text
        self._index += matches
        return matches

    def _expect(self, text: str) -> None:
        if not self._accept(text):
            raise self._unexpected(repr(text))

    def _unexpected(self, expected: str) -> InvalidFilter:
        token = self._current
        return InvalidFilter(f"expected {expected} at position {token.position}, found {token.text!r}")


def _all_of(terms: Sequence[Predicate]) -> Predicate:
    return terms[0] if len(terms) == 1 else lambda attributes: all(term(attributes) for term in terms)


def _any_of(terms: Sequence[Predicate]) -> Predicate:
    return lambda attributes: any(term(attributes) for term in terms)


def _negation(term: Predicate) -> Predicate:
    return lambda attributes: not term(attributes)


def _has_key(key: str) -> Predicate:
    return lambda attributes: key in attributes


def _equals(key: str, value: str) -> Predicate:
    return lambda attributes: attributes.get(key) == value


def _starts_with(key: str, prefix: str) -> Predicate:
    return lambda attributes: key in attributes and attributes[key].startswith(prefix)
