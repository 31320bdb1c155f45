"""The form of Dropline's messages on Redis. Any client of Redis can write to the queue: the rest is a stranger's.

Celery and kombu assume the form, and a message of another form ends the worker.
"""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from dropline.contract import CAPTION_TASK

#: Longest message: Dropline's own have less than 2 KiB.
MAX_BYTES = 65_536
_LONGEST_TEXT = 1024
_MAX_ROW_ID = 2**63 - 1
#: Dropline's own messages have a handful of retries, and wait for less than a day.
_MOST_RETRIES = 1_000
_LONGEST_WAIT = timedelta(days=7)
#: Headers of Celery that Dropline's messages lack, or have without a value.
_ABSENT_HEADERS = (
    "expires", "group", "group_index", "chord", "compression", "shadow", "errbacks", "callbacks", "chain",
    "delivery_info", "headers", "properties",
)  # fmt: skip
#: Headers that may have this empty value, too.
_EMPTY_HEADERS: dict[str, Any] = {"stamped_headers": [], "stamps": {}, "replaced_task_nesting": 0}
_TEXT_HEADERS = ("lang", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin")


def problem_of(message: bytes) -> str:
    """Why a message is none of Dropline's, in words; empty for a message of Dropline's.

    The checks cover each part that Celery or kombu reads before the task runs.
    """
    if len(message) > MAX_BYTES:
        return f"more than {MAX_BYTES} bytes"
    try:
        envelope = json.loads(message.decode())
        _check_envelope(envelope)
        _check_body(json.loads(base64.b64decode(envelope["body"], validate=True)))
    except _Stranger as error:
        return str(error)
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        return f"not a message of Celery ({type(error).__name__})"
    return ""


def row_id_of(message: bytes | str) -> int | None:
    """The row id of a caption message as Redis holds it; None for any other message."""
    try:
        found = json.loads(base64.b64decode(json.loads(message)["body"]))[0][0]
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return None  # a worker takes and logs such a message
    return found if _is_row_id(found) else None


class _Stranger(Exception):
    """The message is not one of Dropline's; the text has the reason."""


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise _Stranger(problem)


def _check_envelope(envelope: Any) -> None:
    _require(isinstance(envelope, dict), "not an object of JSON")
    _require(isinstance(envelope["body"], str), "no body")
    _require(envelope["content-type"] == "application/json", "the content type is not JSON")
    _require(envelope["content-encoding"] == "utf-8", "the content encoding is not UTF-8")
    _check_properties(envelope["properties"])
    _check_headers(envelope["headers"])


def _check_properties(properties: dict[str, Any]) -> None:
    _require(_is_text(properties["delivery_tag"]), "no delivery tag")
    _require(properties["body_encoding"] == "base64", "the body is not in base64")
    place = properties["delivery_info"]
    _require(_is_text(place["routing_key"]) and isinstance(place["exchange"], str), "no routing key")
    for name in ("reply_to", "correlation_id"):
        _require(properties.get(name) is None or isinstance(properties[name], str), f"{name} is no text")
    _require(properties.get("priority", 0) in (None, *range(10)), "the priority is not 0 to 9")


def _check_headers(headers: dict[str, Any]) -> None:
    _require(headers["task"] == CAPTION_TASK, "an unknown task")
    _require(_is_text(headers["id"]), "no task id")
    _require(
        headers.get("retries") in (None, *range(_MOST_RETRIES)), "the number of retries is no small whole number"
    )
    if headers.get("eta") is not None:
        _require(_is_near(datetime.fromisoformat(headers["eta"])), "a time of delivery in the far future")
    limits = headers.get("timelimit") or [None, None]
    _require(len(limits) == 2 and all(each is None or _is_limit(each) for each in limits), "wrong time limits")
    for name in _ABSENT_HEADERS:
        _require(headers.get(name) is None, f"the header {name}")
    for name, empty in _EMPTY_HEADERS.items():
        _require(headers.get(name) in (None, empty), f"the header {name}")
    for name in _TEXT_HEADERS:
        _require(headers.get(name) is None or isinstance(headers[name], str), f"the header {name} is no text")
    others = (value for name, value in headers.items() if name != "timelimit")
    _require(all(_is_plain(value) for value in others), "a header that Dropline does not send")


def _check_body(body: Any) -> None:
    arguments, keywords, embed = body
    _require(isinstance(arguments, list), "no list of arguments")
    _require(keywords == {}, "keyword arguments")
    _require(embed is None or (isinstance(embed, dict) and not any(embed.values())), "callbacks or a chain")
    _require(len(arguments) == 1 and _is_row_id(arguments[0]), "the argument is not the id of a row")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_TEXT


def _is_near(moment: datetime) -> bool:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return aware - datetime.now(UTC) < _LONGEST_WAIT


def _is_number(value: Any) -> bool:
    # Also false for NaN.
    return type(value) in (int, float) and 0 <= value < 1e9


def _is_limit(value: Any) -> bool:
    # A limit below a second would end the child at once.
    return _is_number(value) and value >= 1


def _is_row_id(value: Any) -> bool:
    return type(value) is int and 1 <= value <= _MAX_ROW_ID


def _is_plain(value: Any) -> bool:
    """A scalar or an empty container."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_TEXT
    return value is None or isinstance(value, bool | int | float) or value in ([], {})
