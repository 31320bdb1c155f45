"""Parses the headers and body of a request to an object event, or to a reason to skip. Pure: no input, no output.

Accepted formats: Pub/Sub push envelopes of storage notifications (payload `JSON_API_V1` and `NONE`), the same
envelope in a CloudEvent, and Eventarc's direct storage events; CloudEvents in binary and structured mode;
unwrapped pushes with metadata; events of first-generation functions. A batch of CloudEvents and an unwrapped push
without metadata are refused, and stay with Pub/Sub.
"""

import base64
import contextlib
import enum
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dropline.contract import ObjectFacts, ObjectVersion
from dropline.errors import InvalidEvent, UnknownDelivery
from dropline.object_metadata import own_caption, seen_metadata
from dropline.selection import Skip, task_of_metadata


class EventKind(enum.Enum):
    """The kind of change of the object version."""

    FINALIZED = "finalized"
    DELETED = "deleted"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """An object version was finalized, deleted or archived."""

    kind: EventKind
    version: ObjectVersion
    facts: ObjectFacts
    #: Unparsed metadata `caption-task` of the object, as set by a person; None where the key is missing, or the
    #: event has no payload.
    task: str | None
    #: For the logs only: the same event can arrive with several ids.
    message_id: str


_STORAGE_EVENT = "google.cloud.storage.object.v1."
_PUBSUB_MESSAGE = "google.cloud.pubsub.topic.v1.messagePublished"
# In a bucket with versioning, ARCHIVE reports that a generation is no longer live: overwritten, or removed by a
# person. The generation still exists as a noncurrent version. DELETE reports the final removal.
_KINDS = {
    "OBJECT_FINALIZE": EventKind.FINALIZED,
    "OBJECT_DELETE": EventKind.DELETED,
    "OBJECT_ARCHIVE": EventKind.ARCHIVED,
    f"{_STORAGE_EVENT}finalized": EventKind.FINALIZED,
    f"{_STORAGE_EVENT}deleted": EventKind.DELETED,
    f"{_STORAGE_EVENT}archived": EventKind.ARCHIVED,
}
#: Event types of first-generation functions: `google.storage.object.finalize` and so on.
_FIRST_GENERATION = "google.storage.object."
_FIRST_GENERATION_KINDS = {
    "finalize": EventKind.FINALIZED,
    "delete": EventKind.DELETED,
    "archive": EventKind.ARCHIVED,
}
#: Attributes of a storage notification, by the names of their headers in an unwrapped push.
_ATTRIBUTES = {
    name.lower(): name
    for name in ("eventType", "payloadFormat", "bucketId", "objectId", "objectGeneration", "eventTime")
}
_HEADER_PREFIX = "x-goog-pubsub-"
_OBJECT_RESOURCE = "storage#object"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_DIGITS = re.compile(r"[0-9]{1,19}")
_CHECKSUM = re.compile(r"[A-Za-z0-9+/=_-]{1,64}")
_MAX_INT64 = 2**63 - 1
_MAX_NAME_BYTES = 1024
_MAX_CONTENT_TYPE = 255


def parse_event(headers: Mapping[str, str], body: bytes) -> ObjectEvent | Skip:
    """Parse a delivery.

    Args:
        headers: headers of the request, names in lower case.
        body: complete body of the request.

    Raises:
        InvalidEvent: not a storage event, or the object cannot exist; the same bytes never become valid.
        UnknownDelivery: an event in a format that is not read here.
    """
    if event_type := headers.get("ce-type"):
        return _cloud_event(event_type, headers.get("ce-id", ""), headers.get("ce-time"), body)
    if attributes := _header_attributes(headers):
        return _unwrapped_message(attributes, body, headers.get(f"{_HEADER_PREFIX}message-id"))
    content = _json(body, "the body")
    _refuse_unknown_format(content)
    document = _mapping(content, "the body")
    if "specversion" in document:
        event = document.get("type"), document.get("id"), document.get("time")
        return _cloud_event(str(event[0]), *event[1:], _structured_data(document))
    context = document.get("context", document)
    if isinstance(context, Mapping) and str(context.get("eventType")).startswith(_FIRST_GENERATION):
        return _first_generation_event(context, document.get("data"))
    return _push_message(document)


def _header_attributes(headers: Mapping[str, str]) -> dict[str, str]:
    """The attributes of an unwrapped push, whose subscription writes metadata; empty for other deliveries."""
    found = {}
    for header, value in headers.items():
        if name := _ATTRIBUTES.get(header.removeprefix(_HEADER_PREFIX)):
            found[name] = _header_text(value)
    return found if "eventType" in found else {}


def _header_text(value: str) -> str:
    """The value of a header: servers decode bytes as Latin-1, and Pub/Sub sends UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _unwrapped_message(attributes: Mapping[str, str], body: bytes, message_id: str | None) -> ObjectEvent | Skip:
    kind = _KINDS.get(attributes["eventType"])
    if kind is None:
        return Skip(_skip_reason(attributes["eventType"]))
    if not body or attributes.get("payloadFormat") == "NONE":
        return _object_event(kind, attributes, None, attributes.get("eventTime"), message_id)
    # Without the names in the headers: a header cannot hold every name.
    resource = _mapping(_json(body, "the body"), "the body")
    return _object_event(kind, {}, resource, attributes.get("eventTime"), message_id)


def _first_generation_event(context: Mapping[str, Any], data: Any) -> ObjectEvent | Skip:
    event_type = str(context["eventType"])
    kind = _FIRST_GENERATION_KINDS.get(event_type.removeprefix(_FIRST_GENERATION))
    if kind is None:
        return Skip(_skip_reason(event_type))
    return _object_event(kind, {}, _mapping(data, "the data"), context.get("timestamp"), context.get("eventId"))


def _refuse_unknown_format(content: Any) -> None:
    """Refuse the events in formats that are not read; the dead-letter topic keeps them."""
    if isinstance(content, list) and any(isinstance(each, Mapping) and "specversion" in each for each in content):
        raise UnknownDelivery("a batch of CloudEvents is not read here: have the events delivered one by one")
    if isinstance(content, Mapping) and content.get("kind") == _OBJECT_RESOURCE:
        raise UnknownDelivery(
            "the body is an object without the type of its event: switch off payload unwrapping in the push "
            "subscription, or have the metadata written to headers"
        )


def _cloud_event(event_type: str, event_id: Any, time: Any, data: Any) -> ObjectEvent | Skip:
    """Parse a CloudEvent; `data` is the object's resource or a Pub/Sub envelope, as bytes in binary mode.

    Identity comes from the resource: `ce-subject` may be percent-encoded, and has no generation.
    """
    kind = _KINDS.get(event_type)
    if kind is None and event_type != _PUBSUB_MESSAGE:
        return Skip(_skip_reason(event_type))
    document = _mapping(_json(data, "the data") if isinstance(data, bytes) else data, "the data")
    if kind is None:
        return _push_message(document)
    return _object_event(kind, {}, document, time, event_id)


def _structured_data(event: Mapping[str, Any]) -> Any:
    encoded = event.get("data_base64")
    return event.get("data") if encoded is None else _base64(encoded, "data_base64")


def _push_message(envelope: Mapping[str, Any]) -> ObjectEvent | Skip:
    message = _mapping(envelope.get("message"), "message")
    attributes = _mapping(message.get("attributes") or {}, "message.attributes")
    event_type = attributes.get("eventType")
    if not isinstance(event_type, str):
        raise _without_event_type(message)
    kind = _KINDS.get(event_type)
    if kind is None:
        return Skip(_skip_reason(event_type))
    message_id = message.get("messageId") or message.get("message_id")
    return _object_event(kind, attributes, _payload(message, attributes), attributes.get("eventTime"), message_id)


def _without_event_type(message: Mapping[str, Any]) -> InvalidEvent | UnknownDelivery:
    with contextlib.suppress(InvalidEvent):
        resource = _mapping(_json(_base64(message.get("data"), "message.data"), "message.data"), "message.data")
        if resource.get("kind") == _OBJECT_RESOURCE:
            return UnknownDelivery(
                "the message has an object without the attribute eventType: publish the message again with the "
                "attributes of its notification"
            )
    return InvalidEvent("the message has no attribute eventType, so it is no storage notification")


def _payload(message: Mapping[str, Any], attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The object's resource; None for a notification without payload."""
    data = message.get("data")
    if not data or attributes.get("payloadFormat") == "NONE":
        return None
    return _mapping(_json(_base64(data, "message.data"), "message.data"), "message.data")


def _object_event(
    kind: EventKind,
    attributes: Mapping[str, Any],
    resource: Mapping[str, Any] | None,
    event_time: Any,
    message_id: Any,
) -> ObjectEvent:
    said = resource or {}
    version = ObjectVersion(
        _bucket(attributes.get("bucketId", said.get("bucket"))),
        _name(attributes.get("objectId", said.get("name"))),
        _generation(attributes.get("objectGeneration", said.get("generation"))),
    )
    return ObjectEvent(
        kind, version, _facts(resource, event_time), _task(said), message_id if isinstance(message_id, str) else ""
    )


def _bucket(value: Any) -> str:
    if not isinstance(value, str) or not _BUCKET.fullmatch(value):
        raise InvalidEvent(f"the bucket is {_shown(value)}, which is not a bucket name")
    return value


def _name(value: Any) -> str:
    """Cloud Storage's rules for names; NUL is refused too, since Postgres cannot store NUL."""
    if not isinstance(value, str) or not 1 <= len(value.encode()) <= _MAX_NAME_BYTES:
        raise InvalidEvent(f"the object's name is {_shown(value)}, not 1 to {_MAX_NAME_BYTES} bytes of UTF-8")
    if value in {".", ".."} or any(character in value for character in "\r\n\x00"):
        raise InvalidEvent(f"no object can be named {_shown(value)}")
    return value


def _generation(value: Any) -> int:
    number = _number(value)
    if not number:
        raise InvalidEvent(f"the object's generation is {_shown(value)}, not a positive 64-bit number")
    return number


def _number(value: Any) -> int | None:
    """A whole number from 0 to 2^63 - 1, as JSON's int64 (a string) or as a number."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    number = int(text) if _DIGITS.fullmatch(text) else None
    return number if number is not None and number <= _MAX_INT64 else None


def _facts(resource: Mapping[str, Any] | None, event_time: Any) -> ObjectFacts:
    """The facts; an implausible one becomes None and does not invalidate the event: the bytes decide later."""
    if resource is None:
        return ObjectFacts(event_time=_time(event_time))
    content_type = resource.get("contentType")
    return ObjectFacts(
        content_type=content_type[:_MAX_CONTENT_TYPE] if isinstance(content_type, str) else "",
        size_bytes=_number(resource.get("size")),
        md5_hash=_checksum(resource.get("md5Hash")),
        crc32c=_checksum(resource.get("crc32c")),
        event_time=_time(event_time),
        metadata=seen_metadata(_number(resource.get("metageneration")), resource.get("metadata")),
        own_caption=own_caption(resource.get("metadata")),
    )


def _checksum(value: Any) -> str | None:
    return value if isinstance(value, str) and _CHECKSUM.fullmatch(value) else None


def _time(value: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time is not None and time.tzinfo is None else time


def _task(resource: Mapping[str, Any]) -> str | None:
    metadata = resource.get("metadata")
    return task_of_metadata(metadata) if isinstance(metadata, Mapping) else None


def _skip_reason(event_type: str) -> str:
    return event_type.removeprefix(_STORAGE_EVENT)[:100].lower()


def _base64(value: Any, where: str) -> bytes:
    try:
        return base64.b64decode(value, validate=True)
    except (ValueError, TypeError):
        raise InvalidEvent(f"{where} is not base64") from None


def _json(data: bytes, where: str) -> Any:
    try:
        document = json.loads(data)
        # JSON's escapes allow a lone surrogate, but Postgres and Cloud Storage cannot store such text.
        json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"{where} is not JSON: {str(error)[:200]}") from None
    return document


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidEvent(f"{where} is {_shown(value)}, not a JSON object")
    return value


def _shown(value: Any) -> str:
    return ascii(value)[:120]
