"""Pub/Sub's filter language."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_emulators.pubsub.filters import MAX_FILTER_BYTES, InvalidFilter, Predicate, parse_filter

EXAMPLES = [
    ("", {}, True),
    ("attributes:event", {"event": ""}, True),
    ("attributes:event", {"events": "x"}, False),
    ('attributes.event = "done"', {"event": "done"}, True),
    ('attributes.event = "done"', {"event": "Done"}, False),
    ('attributes.event="done"', {}, False),
    ('attributes.event != "done"', {"event": "begun"}, True),
    ('attributes.event != "done"', {"event": "done"}, False),
    ('attributes.event != "done"', {}, True),
    ('hasPrefix(attributes.name, "co")', {"name": "com"}, True),
    ('hasPrefix(attributes.name, "co")', {"name": "Com"}, False),
    ('hasPrefix(attributes.name, "")', {}, False),
    ("NOT attributes:a", {}, True),
    ("-attributes:a", {"a": "1"}, False),
    ("NOT -attributes:a", {"a": "1"}, True),
    ("attributes:a AND attributes:b", {"a": "", "b": ""}, True),
    ("attributes:a AND attributes:b AND attributes:c", {"a": "", "b": ""}, False),
    ("attributes:a OR attributes:b", {"b": ""}, True),
    ("(attributes:a OR attributes:b) AND attributes:c", {"a": ""}, False),
    ("attributes:a OR (attributes:b AND attributes:c)", {"a": ""}, True),
    ("NOT (attributes:a AND attributes:b)", {"a": ""}, True),
    ("NOT attributes:a AND attributes:b", {"b": ""}, True),
    ('attributes:"iana.org/language_tag"', {"iana.org/language_tag": "de"}, True),
    ('attributes."a b" = "x"', {"a b": "x"}, True),
    ('attributes.a-b_1 = "x"', {"a-b_1": "x"}, True),
    (r'attributes.a = "\"\\\u0041\x42\103\U0001F600\n"', {"a": '"\\ABC😀\n'}, True),
    ('attributes.a = "é"', {"a": "é"}, True),
    ("\tattributes : a\n", {"a": ""}, True),
    ('attributes.a="1"AND attributes:b', {"a": "1", "b": ""}, True),
]

INVALID = [
    "   ",
    "attributes",
    "attributes:",
    "attributes:a AND",
    "AND attributes:a",
    "attributes:a attributes:b",
    "attributes:a and attributes:b",
    "attributes:a AND attributes:b OR attributes:c",
    "(attributes:a",
    "attributes:a)",
    "()",
    "NOT",
    "attributes.a",
    "attributes.a = 1",
    "attributes.a = x",
    "attributes.a = 'x'",
    'attributes.a < "x"',
    'attributes.a : "x"',
    'attributes:a = "x"',
    "attributes:a.b",
    "attributes:AND",
    "attributes:é",
    'attributes.a = "x',
    r'attributes.a = "\q"',
    r'attributes.a = "\ud800"',
    r'attributes.a = "\U00110000"',
    'hasprefix(attributes.a, "x")',
    'hasPrefix(attributes:a, "x")',
    "hasPrefix(attributes.a)",
    'message.data = "x"',
    "(" * MAX_FILTER_BYTES,
    "attributes:" + "a" * MAX_FILTER_BYTES,
]


@pytest.mark.parametrize(("text", "attributes", "expected"), EXAMPLES)
def test_filter_selects(text: str, attributes: dict[str, str], expected: bool) -> None:
    """A filter accepts exactly the attributes described by the text."""
    assert parse_filter(text)(attributes) is expected


@pytest.mark.parametrize("text", INVALID)
def test_invalid_filter_is_refused(text: str) -> None:
    """An invalid text raises InvalidFilter with a message."""
    with pytest.raises(InvalidFilter, match=r"\w+"):
        parse_filter(text)


def test_error_has_the_position() -> None:
    """The message has the position and the text at the position."""
    with pytest.raises(InvalidFilter, match="at position 13, found 'attributes'"):
        parse_filter("attributes:a attributes:b")


def test_longest_filter_is_accepted() -> None:
    """The limit is 256 bytes, counted in UTF-8."""
    head = 'attributes.a = "'
    parse_filter(head + "é" * ((MAX_FILTER_BYTES - len(head) - 1) // 2) + '"')
    with pytest.raises(InvalidFilter, match="257 bytes"):
        parse_filter(head + "x" * (MAX_FILTER_BYTES - len(head)) + '"')


def test_deep_nesting_is_parsed() -> None:
    """The parser accepts the deepest nesting within the size limit."""
    depth = (MAX_FILTER_BYTES - len("attributes:a")) // 2
    assert parse_filter("(" * depth + "attributes:a" + ")" * depth)({"a": ""})


KEYS = st.sampled_from(["a", "b", "lang", "x-y_2"])
VALUES = st.sampled_from(["", "1", "12", 'quo"te', "ü", "back\\slash"])
Expression = tuple[str, Predicate]


def _has(key: str) -> Expression:
    return f"attributes:{key}", lambda attributes: key in attributes


def _is(key: str, value: str) -> Expression:
    literal = json.dumps(value, ensure_ascii=False)
    return f"attributes.{key} = {literal}", lambda attributes: attributes.get(key) == value


def _is_not(key: str, value: str) -> Expression:
    text, predicate = _is(key, value)
    return text.replace(" = ", "!=", 1), lambda attributes: not predicate(attributes)


def _prefix(key: str, value: str) -> Expression:
    literal = json.dumps(value)
    return (
        f'hasPrefix(attributes."{key}",{literal})',
        lambda attributes: attributes.get(key, "\0").startswith(value) and (key in attributes),
    )


def _not(inner: Expression, sign: str) -> Expression:
    text, predicate = inner
    return f"{sign}({text})", lambda attributes: not predicate(attributes)


def _join(left: Expression, right: Expression, both: bool) -> Expression:
    text = f"({left[0]}) {'AND' if both else 'OR'} ({right[0]})"
    if both:
        return text, lambda attributes: left[1](attributes) and right[1](attributes)
    return text, lambda attributes: left[1](attributes) or right[1](attributes)


LEAVES = st.one_of(
    st.builds(_has, KEYS),
    st.builds(_is, KEYS, VALUES),
    st.builds(_is_not, KEYS, VALUES),
    st.builds(_prefix, KEYS, VALUES),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(_not, inner, st.sampled_from(["NOT ", "-", "NOT NOT -"])),
        st.builds(_join, inner, inner, st.booleans()),
    ),
    max_leaves=5,
).filter(lambda expression: len(expression[0].encode()) <= MAX_FILTER_BYTES)


@given(EXPRESSIONS, st.dictionaries(KEYS, VALUES))
def test_filter_agrees_with_python(expression: Expression, attributes: dict[str, str]) -> None:
    """A parsed expression agrees with the same expression built from Python's operators."""
    text, reference = expression
    assert parse_filter(text)(attributes) == reference(attributes)


@given(st.one_of(st.text(max_size=80), st.text('attributes:."=!() ANDORT-\\ux09', max_size=120)))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    """The parser raises no other error than InvalidFilter, for any text."""
    try:
        predicate = parse_filter(text)
    except InvalidFilter:
        return
    assert predicate({}) in (True, False)
