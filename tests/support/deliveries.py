"""Deliveries of storage events, as from Pub/Sub and Eventarc: headers and a body."""

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

BUCKET = "drops"
GENERATION = 1_700_000_000_000_001


def md5_of(name: str = "cat.jpg", generation: int | str = GENERATION) -> str:
    """An MD5 for each object version, as of different bytes: rows with one MD5 wait for each other."""
    return base64.b64encode(hashlib.md5(f"{name}#{generation}".encode(), usedforsecurity=False).digest()).decode()


@dataclass(frozen=True)
class Delivery:
    """An HTTP request."""

    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "application/json"})


def resource(name: str = "cat.jpg", generation: int = GENERATION, **fields: Any) -> dict[str, Any]:
    """An object's resource, as in the JSON API; `None` leaves a field out."""
    usual = {
        "kind": "storage#object",
        "bucket": BUCKET,
        "name": name,
        "generation": str(generation),
        "metageneration": "1",
        "contentType": "image/jpeg",
        "size": "51200",
        "md5Hash": md5_of(name, generation),
        "crc32c": "AAAAAA==",
        "timeCreated": "2026-11-22T13:00:00.123Z",
    }
    return {key: value for key, value in (usual | fields).items() if value is not None}


def push(
    name: str = "cat.jpg",
    generation: int | str = GENERATION,
    event_type: str = "OBJECT_FINALIZE",
    *,
    bucket: str | None = BUCKET,
    payload: bool = True,
    data: str | None = None,
    message_id: str = "1",
    **fields: Any,
) -> Delivery:
    """A Pub/Sub push of a storage notification.

    Args:
        payload: whether the notification carries the object's resource (JSON_API_V1) or not (NONE).
        data: the message's data, in place of the resource.
        fields: of the resource.
    """
    attributes = {
        "notificationConfig": "projects/_/buckets/drops/notificationConfigs/1",
        "eventType": event_type,
        "payloadFormat": "JSON_API_V1" if payload else "NONE",
        "bucketId": bucket,
        "objectId": name,
        "objectGeneration": str(generation),
        "eventTime": "2026-11-22T13:00:00.123456Z",
    }
    message: dict[str, Any] = {
        "attributes": {key: value for key, value in attributes.items() if value is not None},
        "messageId": message_id,
        "publishTime": "2026-11-22T13:00:01Z",
    }
    if payload:
        document = resource(name, bucket=bucket, **{"generation": str(generation), **fields})
        message["data"] = base64.b64encode(json.dumps(document).encode()).decode() if data is None else data
    return Delivery(json.dumps({"subscription": "projects/p/subscriptions/s", "message": message}).encode())


def binary_cloud_event(event_type: str = "finalized", **fields: Any) -> Delivery:
    """Eventarc's direct event: attributes in headers, the object's resource as the body."""
    document = resource(**fields)
    headers = {
        "content-type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "ce-1",
        "ce-type": f"google.cloud.storage.object.v1.{event_type}",
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{document.get('bucket')}",
        "ce-subject": "objects/percent-encoded-or-not",
        "ce-time": "2026-11-22T13:00:00.5Z",
    }
    return Delivery(json.dumps(document).encode(), headers)


def structured_cloud_event(event_type: str = "finalized", *, encoded: bool = False, **fields: Any) -> Delivery:
    """Eventarc's direct event as a JSON document; `encoded` sends the data as base64."""
    binary = binary_cloud_event(event_type, **fields)
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": "ce-1",
        "type": binary.headers["ce-type"],
        "source": binary.headers["ce-source"],
        "time": binary.headers["ce-time"],
    }
    if encoded:
        event["data_base64"] = base64.b64encode(binary.body).decode()
    else:
        event["data"] = json.loads(binary.body)
    return Delivery(json.dumps(event).encode(), {"content-type": "application/cloudevents+json; charset=utf-8"})


def wrapped(delivery: Delivery, *, structured: bool = False) -> Delivery:
    """A Pub/Sub push inside a CloudEvent, as from Eventarc's Pub/Sub triggers."""
    event_type = "google.cloud.pubsub.topic.v1.messagePublished"
    if not structured:
        headers = {"content-type": "application/json", "ce-specversion": "1.0", "ce-type": event_type}
        return Delivery(delivery.body, headers)
    event = {"specversion": "1.0", "id": "ce-2", "type": event_type, "data": json.loads(delivery.body)}
    return Delivery(json.dumps(event).encode(), {"content-type": "application/cloudevents+json"})
