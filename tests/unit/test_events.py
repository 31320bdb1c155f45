"""The parsing of deliveries to events, skips or InvalidEvent."""

import base64
import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.contract import ObjectFacts, ObjectVersion, SeenMetadata
from dropline.errors import InvalidEvent, UnknownDelivery
from dropline.selection import Skip
from tests.support.deliveries import (
    BUCKET,
    GENERATION,
    Delivery,
    binary_cloud_event,
    md5_of,
    push,
    resource,
    structured_cloud_event,
    wrapped,
)
from trigger_fn.events import EventKind, ObjectEvent, parse_event

NAMES = [
    "cat.jpg",
    "a/b c/d.png",
    "/leading",
    "../up",
    "q?x=1#frag&y",
    "50%2Foff%",
    "quote\"s'.jpg",
    "猫🐈‍⬛.jpg",
    "tab\tbell\x07",
    "back\\slash",
    "é" * 512,
    "n" * 1024,
    "...",
    "trailing/",
]


def parse(delivery: Delivery) -> ObjectEvent | Skip:
    return parse_event(delivery.headers, delivery.body)


def event_of(delivery: Delivery) -> ObjectEvent:
    event = parse(delivery)
    assert isinstance(event, ObjectEvent)
    return event


def test_a_push_with_payload_tells_everything() -> None:
    """JSON_API_V1 gives identity, facts and the object's own task."""
    event = event_of(push(metadata={"caption-task": "<OD>", "owner": "me"}, message_id="77"))
    assert event == ObjectEvent(
        EventKind.FINALIZED,
        ObjectVersion(BUCKET, "cat.jpg", GENERATION),
        ObjectFacts(
            "image/jpeg",
            51200,
            md5_of(),
            "AAAAAA==",
            datetime(2026, 11, 22, 13, 0, 0, 123456, tzinfo=UTC),
            SeenMetadata(metageneration=1, size_bytes=len("caption-task<OD>ownerme")),
        ),
        "<OD>",
        "77",
    )


def test_a_push_without_payload_is_read_from_its_attributes() -> None:
    """Payload NONE carries no data; the facts stay unknown rather than guessed."""
    event = event_of(push(payload=False))
    assert event.version == ObjectVersion(BUCKET, "cat.jpg", GENERATION)
    assert event.facts == ObjectFacts(event_time=datetime(2026, 11, 22, 13, 0, 0, 123456, tzinfo=UTC))
    assert event.task is None


@pytest.mark.parametrize(
    "delivery",
    [
        binary_cloud_event(),
        structured_cloud_event(),
        structured_cloud_event(encoded=True),
        wrapped(push()),
        wrapped(push(), structured=True),
        wrapped(push(payload=False)),
    ],
    ids=["binary", "structured", "structured-base64", "pubsub-binary", "pubsub-structured", "pubsub-none"],
)
def test_every_envelope_names_the_same_object(delivery: Delivery) -> None:
    """Every envelope, of Pub/Sub or Eventarc, binary or structured, gives the same object version."""
    event = event_of(delivery)
    assert (event.kind, event.version) == (EventKind.FINALIZED, ObjectVersion(BUCKET, "cat.jpg", GENERATION))
    assert event.facts.event_time is not None


@pytest.mark.parametrize(
    "delivery",
    [push(event_type="OBJECT_DELETE"), binary_cloud_event("deleted"), structured_cloud_event("deleted")],
)
def test_deletions_are_told_apart(delivery: Delivery) -> None:
    """A deletion has the kind DELETED and the generation of the deleted object."""
    event = event_of(delivery)
    assert (event.kind, event.version.generation) == (EventKind.DELETED, GENERATION)


@pytest.mark.parametrize(
    "delivery",
    [push(event_type="OBJECT_ARCHIVE"), binary_cloud_event("archived"), structured_cloud_event("archived")],
)
def test_archivings_are_told_apart(delivery: Delivery) -> None:
    """An archiving has the kind ARCHIVED and the generation of the noncurrent version."""
    event = event_of(delivery)
    assert (event.kind, event.version.generation) == (EventKind.ARCHIVED, GENERATION)


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (push(event_type="OBJECT_METADATA_UPDATE"), "object_metadata_update"),
        (push(event_type="OBJECT_SOMETHING_NEW", data="%%%"), "object_something_new"),
        (binary_cloud_event("metadataUpdated"), "metadataupdated"),
        (Delivery(b"", {"ce-type": "google.cloud.audit.log.v1.written"}), "google.cloud.audit.log.v1.written"),
    ],
)
def test_other_events_are_skipped(delivery: Delivery, reason: str) -> None:
    """Metadata updates and event types still unknown are skipped, with any data."""
    assert parse(delivery) == Skip(reason)


def test_attributes_win_over_the_payload() -> None:
    """If attributes and payload differ, the attributes count, because the subscription filters by attributes."""
    other = base64.b64encode(json.dumps({"bucket": "other", "name": "x", "generation": "9"}).encode()).decode()
    assert event_of(push(data=other)).version == ObjectVersion(BUCKET, "cat.jpg", GENERATION)


def test_the_payload_fills_in_for_a_missing_attribute() -> None:
    """Without attributes the payload identifies the object: an emulator may leave attributes out."""
    body = json.loads(push().body)
    for key in ("bucketId", "objectId", "objectGeneration"):
        del body["message"]["attributes"][key]
    assert event_of(Delivery(json.dumps(body).encode())).version == ObjectVersion(BUCKET, "cat.jpg", GENERATION)


@pytest.mark.parametrize("name", NAMES, ids=ascii)
@pytest.mark.parametrize("payload", [True, False])
def test_names_arrive_exactly(name: str, payload: bool) -> None:
    """Every name allowed by Cloud Storage arrives unchanged, in every envelope."""
    assert event_of(push(name, payload=payload)).version.name == name
    assert event_of(binary_cloud_event(name=name)).version.name == name


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "a\rb", "nul\x00", "n" * 1025, "é" * 513], ids=ascii)
def test_impossible_names_are_refused(name: str) -> None:
    """A name forbidden by Cloud Storage raises InvalidEvent."""
    with pytest.raises(InvalidEvent, match="name"):
        parse(push(name, payload=False))


@pytest.mark.parametrize("generation", ["", "0", "-1", "1.5", "abc", "1e3", " 1", "१", str(2**63), "9" * 5000])
def test_impossible_generations_are_refused(generation: str) -> None:
    """A generation other than a positive int64 in ASCII digits raises InvalidEvent."""
    with pytest.raises(InvalidEvent, match="generation"):
        parse(push(generation=generation))


def test_the_largest_generation_is_accepted() -> None:
    """2^63 - 1 fits Postgres's bigint."""
    assert event_of(push(generation=2**63 - 1)).version.generation == 2**63 - 1


@pytest.mark.parametrize("bucket", [None, "", "ab", "UPPER", "a b", "-x-", "b" * 300])
def test_impossible_buckets_are_refused(bucket: str | None) -> None:
    """A missing bucket, or a name forbidden for buckets, raises InvalidEvent."""
    with pytest.raises(InvalidEvent, match="bucket"):
        parse(push(bucket=bucket))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"{}",
        b'{"message": null}',
        b'{"message": []}',
        b'{"message": {}}',
        b'{"message": {"attributes": []}}',
        b'{"message": {"attributes": {"eventType": 7}}}',
        b'{"specversion": "1.0", "type": "google.cloud.storage.object.v1.finalized"}',
        b'{"specversion": "1.0", "type": "google.cloud.storage.object.v1.finalized", "data_base64": 3}',
        push(data="!!!").body,
        push(data="e30").body,
        push(data=base64.b64encode(b"{").decode()).body,
        push(data=base64.b64encode(b"[1]").decode()).body,
        push(data=base64.b64encode(b'{"name": "\\udfff"}').decode()).body,
    ],
)
def test_malformed_bodies_are_invalid(body: bytes) -> None:
    """A body without an event raises InvalidEvent: the delivery is acknowledged, and not repeated for ever."""
    with pytest.raises(InvalidEvent):
        parse_event({}, body)


def unwrapped(event_type: str = "OBJECT_FINALIZE", *, prefix: str = "", payload: bool = True) -> Delivery:
    """A push without the envelope: attributes in headers, the object's resource as the body."""
    message = json.loads(push("é ☃.jpg", event_type=event_type, payload=payload).body)["message"]
    headers = {f"{prefix}{name.lower()}": value for name, value in message["attributes"].items()}
    headers["x-goog-pubsub-message-id"] = "77"
    body = base64.b64decode(message.get("data", ""))
    # A web server hands headers over as Latin-1.
    return Delivery(body, {name: value.encode().decode("latin-1") for name, value in headers.items()})


@pytest.mark.parametrize("prefix", ["", "x-goog-pubsub-"])
@pytest.mark.parametrize("payload", [True, False])
def test_an_unwrapped_push_with_metadata_is_read(prefix: str, payload: bool) -> None:
    """Attributes come from the headers; names that are not ASCII arrive unchanged."""
    event = event_of(unwrapped(prefix=prefix, payload=payload))
    assert (event.kind, event.version) == (EventKind.FINALIZED, ObjectVersion(BUCKET, "é ☃.jpg", GENERATION))
    assert (event.message_id, event.facts.size_bytes) == ("77", 51200 if payload else None)
    assert event.facts.event_time is not None
    assert event_of(unwrapped("OBJECT_DELETE", prefix=prefix)).kind is EventKind.DELETED
    assert parse(unwrapped("OBJECT_METADATA_UPDATE", prefix=prefix)) == Skip("object_metadata_update")


FIRST_GENERATION = {
    "finalize": EventKind.FINALIZED,
    "delete": EventKind.DELETED,
    "archive": EventKind.ARCHIVED,
}


@pytest.mark.parametrize("nested", [True, False])
@pytest.mark.parametrize("event_type", FIRST_GENERATION)
def test_a_first_generation_event_is_read(event_type: str, nested: bool) -> None:
    """The context of the event stands beside the data, in an object of its own or not."""
    context = {
        "eventId": "77",
        "timestamp": "2026-11-22T13:00:00.5Z",
        "eventType": f"google.storage.object.{event_type}",
        "resource": {"service": "storage.googleapis.com", "name": "projects/_/buckets/drops/objects/cat.jpg"},
    }
    body = {"context": context, "data": resource()} if nested else context | {"data": resource()}
    event = event_of(Delivery(json.dumps(body).encode()))
    assert (event.kind, event.version) == (
        FIRST_GENERATION[event_type],
        ObjectVersion(BUCKET, "cat.jpg", GENERATION),
    )
    assert (event.message_id, event.facts.size_bytes) == ("77", 51200)
    update = json.dumps(body).replace(f"object.{event_type}", "object.metadataUpdate")
    assert parse(Delivery(update.encode())) == Skip("google.storage.object.metadataupdate")


def _without_attributes() -> Delivery:
    body = json.loads(push().body)
    del body["message"]["attributes"]
    return Delivery(json.dumps(body).encode())


@pytest.mark.parametrize(
    ("delivery", "words"),
    [
        (Delivery(b"[" + structured_cloud_event().body + b"]"), "batch of CloudEvents"),
        (Delivery(json.dumps(resource()).encode()), "payload unwrapping"),
        (_without_attributes(), "attribute eventType"),
    ],
)
def test_an_event_in_an_unknown_format_is_no_malformed_message(delivery: Delivery, words: str) -> None:
    """The event stays with Pub/Sub instead of being acknowledged and lost."""
    with pytest.raises(UnknownDelivery, match=words):
        parse(delivery)


@pytest.mark.parametrize(
    ("fields", "facts"),
    [
        ({"contentType": None}, {"content_type": ""}),
        ({"contentType": 5}, {"content_type": ""}),
        ({"contentType": "x" * 999}, {"content_type": "x" * 255}),
        ({"size": 0}, {"size_bytes": 0}),
        ({"size": "0"}, {"size_bytes": 0}),
        ({"size": None}, {"size_bytes": None}),
        ({"size": "-3"}, {"size_bytes": None}),
        ({"size": True}, {"size_bytes": None}),
        ({"size": str(2**63)}, {"size_bytes": None}),
        ({"md5Hash": "nul\x00"}, {"md5_hash": None}),
        ({"crc32c": 4}, {"crc32c": None}),
    ],
)
def test_odd_facts_do_not_cost_the_event(fields: dict[str, Any], facts: dict[str, Any]) -> None:
    """An invalid fact is left out, and the object is still captioned."""
    event = event_of(push(**fields))
    assert {key: getattr(event.facts, key) for key in facts} == facts


@pytest.mark.parametrize(
    ("metadata", "task"),
    [
        ({"caption-task": "<OCR>"}, "<OCR>"),
        ({"caption-task": " "}, None),
        ({"caption-task": ""}, None),
        ({"caption-task": 3}, None),
        # A copy of a captioned object, by the keys that Dropline writes, and by those of the first release.
        ({"caption": "a cat", "caption-model": "m", "caption-prompt": "<OD>"}, None),
        ({"caption": "a cat", "caption-model": "m", "caption-task": "<OD>"}, None),
        ({"caption": "a cat", "caption-model": "m", "caption-prompt": "<OD>", "caption-task": "ocr"}, "ocr"),
        # A person's own caption.
        ({"caption": "Grandma, 1962", "caption-task": "od"}, "od"),
        ({"Caption-Task": "<OCR>"}, None),
        ([], None),
        ({}, None),
    ],
)
def test_the_objects_own_task(metadata: Any, task: str | None) -> None:
    """`caption-task` is taken unchanged; an empty value means no task, because some tools cannot delete a key."""
    assert event_of(push(metadata=metadata)).task == task


@pytest.mark.parametrize("time", ["yesterday", "", "2026-13-40T00:00:00Z"])
def test_a_time_that_is_none_is_left_out(time: str) -> None:
    """An event with an invalid time is accepted, without the time."""
    body = json.loads(push().body)
    body["message"]["attributes"]["eventTime"] = time
    assert event_of(Delivery(json.dumps(body).encode())).facts.event_time is None


def test_a_time_without_zone_is_utc() -> None:
    """A time without a zone is UTC, and not in the zone of Postgres."""
    body = json.loads(push().body)
    body["message"]["attributes"]["eventTime"] = "2026-11-22T13:00:00"
    event = event_of(Delivery(json.dumps(body).encode()))
    assert event.facts.event_time == datetime(2026, 11, 22, 13, tzinfo=UTC)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)


@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_body_is_judged(body: bytes) -> None:
    """Any body is an event, a skip or InvalidEvent; no other error is raised."""
    with suppress(InvalidEvent, UnknownDelivery):
        assert isinstance(parse_event({}, body), ObjectEvent | Skip)


@given(
    st.sampled_from(["bucketId", "objectId", "objectGeneration", "eventType", "payloadFormat", "eventTime"]),
    json_values,
)
def test_any_attribute_is_judged(key: str, value: Any) -> None:
    """An attribute with any value raises no other error than InvalidEvent."""
    body = json.loads(push().body)
    body["message"]["attributes"][key] = value
    with suppress(InvalidEvent, UnknownDelivery):
        assert isinstance(parse_event({}, json.dumps(body).encode()), ObjectEvent | Skip)


@given(json_values)
def test_any_payload_is_judged(value: Any) -> None:
    """With valid attributes, a payload is refused only if the payload is not a JSON object."""
    data = base64.b64encode(json.dumps(value).encode()).decode()
    try:
        event = parse_event({}, push(data=data).body)
    except InvalidEvent:
        assert not isinstance(value, dict)
    else:
        assert isinstance(event, ObjectEvent)


@given(st.text(min_size=1, max_size=60), st.integers(1, 2**63 - 1))
def test_identity_survives_or_is_refused(name: str, generation: int) -> None:
    """A name is either refused or unchanged."""
    try:
        event = event_of(push(name, generation))
    except InvalidEvent:
        assert name in {".", ".."} or set(name) & set("\r\n\x00") or any("\ud800" <= c <= "\udfff" for c in name)
    else:
        assert event.version == ObjectVersion(BUCKET, name, generation)
