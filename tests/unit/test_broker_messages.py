"""Messages on the queue: Dropline's own pass, and a stranger's is found before Celery reads it."""

import base64
import copy
import json
from typing import Any

import pytest

from dropline.broker.messages import MAX_BYTES, problem_of, row_id_of
from dropline.contract import CAPTION_TASK
from tests.support.memory_broker import MemoryBroker


def sent(monkeypatch: pytest.MonkeyPatch, arguments: list[Any], **options: Any) -> dict[str, Any]:
    """A message as Celery writes it."""
    broker = MemoryBroker(monkeypatch)
    app = broker.app()
    app.send_task(CAPTION_TASK, arguments, queue="dropline.captions", **options)
    (message,) = broker._on("dropline.captions")
    copied: dict[str, Any] = copy.deepcopy(message)
    return copied


def packed(message: Any) -> bytes:
    """A message as Redis holds it."""
    return json.dumps(message).encode()


def with_body(message: dict[str, Any], body: Any) -> bytes:
    """The message with another body."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return packed(message | {"body": base64.b64encode(text).decode()})


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([1], {}),
        ([2**63 - 1], {}),
        # From a function and a worker of the release before.
        ([1], {"task_id": "caption-1"}),
        ([7], {"countdown": 31.5, "retries": 3}),
    ],
)
def test_messages_of_dropline_pass(
    monkeypatch: pytest.MonkeyPatch, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Every form that Dropline sends is accepted, a redelivered one too."""
    message = sent(monkeypatch, arguments, **options)
    assert problem_of(packed(message)) == ""
    message["headers"]["redelivered"] = message["properties"]["delivery_info"]["redelivered"] = True
    assert problem_of(packed(message)) == ""
    assert row_id_of(packed(message)) == arguments[0]


@pytest.mark.parametrize("arguments", [[], [600.0]])
def test_a_recovery_of_the_release_before_is_set_aside(
    monkeypatch: pytest.MonkeyPatch, arguments: list[float]
) -> None:
    """Its task is gone."""
    message = sent(monkeypatch, [1])
    message["headers"]["task"] = "dropline.recover"
    assert problem_of(with_body(message, [arguments, {}, {}]))


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"BADJSON", b"[]", b"{}", b"null", b"1", b'"x"', b"\xff\xfe", b"\x80\x04K*.", b"[" * 60_000),
        *(b'{"body": 1}', b"NaN", b"9" * 5000, b" " * (MAX_BYTES + 1), '"\u0000"'.encode("utf-16")),
    ],
)
def test_bytes_that_are_no_envelope(message: bytes) -> None:
    """Any bytes at all are a stranger's message, and have no row."""
    assert problem_of(message)
    assert row_id_of(message) is None


_OPTIONAL = {
    "retries", "eta", "expires", "timelimit", "stamped_headers", "shadow", "compression", "root_id", "origin",
    "reply_to",
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("properties",), None),
        (("properties",), []),
        (("properties", "delivery_tag"), None),
        (("properties", "delivery_tag"), "x" * 5000),
        (("properties", "delivery_tag"), ["x"]),
        (("properties", "delivery_info"), None),
        (("properties", "delivery_info", "routing_key"), 7),
        (("properties", "body_encoding"), "zlib"),
        (("properties", "priority"), "high"),
        (("properties", "priority"), 2**80),
        (("headers",), None),
        (("headers", "task"), "no.such.task"),
        (("headers", "task"), ["x"]),
        (("headers", "id"), None),
        (("headers", "retries"), "many"),
        (("headers", "eta"), "tomorrow"),
        (("headers", "eta"), 5),
        (("headers", "expires"), "2020-01-01"),
        (("headers", "timelimit"), 5),
        (("headers", "timelimit"), ["x", "y"]),
        (("headers", "timelimit"), [0.001, 0.001]),
        (("headers", "retries"), 10**9),
        (("headers", "retries"), -1),
        (("headers", "eta"), "9999-12-31T23:59:59+00:00"),
        (("headers", "eta"), "2999-12-31T23:59:59"),
        (("headers", "timelimit"), [10**4000, None]),
        (("headers", "stamps"), {"a": 1}),
        (("headers", "stamped_headers"), 5),
        (("headers", "expires"), {}),
        (("headers", "shadow"), 5),
        (("headers", "compression"), "application/x-gzip"),
        (("headers", "root_id"), 5),
        (("headers", "origin"), {}),
        (("properties", "reply_to"), {}),
        (("headers", "chord"), {"task": "x"}),
        (("content-type",), "application/x-python-serialize"),
        (("content-encoding",), "binary"),
        (("content-encoding",), None),
        (("body",), None),
        (("body",), "not base64!"),
        (("body",), "x" * 7),
    ],
)
def test_an_envelope_with_one_wrong_part(
    monkeypatch: pytest.MonkeyPatch, path: tuple[str, ...], value: Any
) -> None:
    """Each part that Celery or kombu reads is checked; a missing part is found too."""
    message = sent(monkeypatch, [1])
    *parents, last = path
    place = message
    for name in parents:
        place = place[name]
    place[last] = value
    assert problem_of(packed(message))
    if path not in {("headers", "stamps"), ("headers", "chord"), ("properties", "priority")}:
        place.pop(last)
        optional = last in _OPTIONAL
        assert bool(problem_of(packed(message))) is not optional


@pytest.mark.parametrize(
    "arguments",
    [[], ["1"], [0], [-1], [1.0], [True], [None], [[1]], [{}], [2**63], [10**4000], [1, 2], {}, "x", None],
)
def test_wrong_arguments(monkeypatch: pytest.MonkeyPatch, arguments: Any) -> None:
    """The argument of a caption message is the id of a row."""
    message = with_body(sent(monkeypatch, [1]), [arguments, {}, {}])
    assert problem_of(message)
    assert row_id_of(message) is None or arguments == [1, 2]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b"\x80\x04K*.",
        b"x",
        [],
        [[1]],
        [[1], {"a": 1}, {}],
        [[1], {}, {"chain": [{"task": "x"}]}],
        [[1], {}, "x"],
        [[1], {}, [1]],
        {"args": [1]},
    ],
)
def test_wrong_bodies(monkeypatch: pytest.MonkeyPatch, body: Any) -> None:
    """A pickled body, keyword arguments, chains and Celery's first protocol are not Dropline's."""
    assert problem_of(with_body(sent(monkeypatch, [1]), body))


@pytest.mark.parametrize("value", [None, "", "x", 0, -1, 1e999, 10**4000, True, [], [1], {}, {"a": 1}, "\ud800"])
def test_no_value_ends_the_check(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """A stranger's value in any place of a message has an answer, never an error."""
    message = sent(monkeypatch, [1])
    for place in (message, message["properties"], message["properties"]["delivery_info"], message["headers"]):
        for name in place:
            before, place[name] = place[name], value
            assert isinstance(problem_of(packed(message)), str)
            place[name] = before
    for body in (value, [value], [value, {}, {}], [[value], {}, {}], [[1], value, {}], [[1], {}, value]):
        assert isinstance(problem_of(with_body(message, body)), str)
