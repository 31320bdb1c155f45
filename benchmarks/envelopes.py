"""Pub/Sub push requests as Cloud Storage's notifications make them. Pure."""

import base64
import json


def finalize_envelope(bucket: str, number: int) -> bytes:
    """The body of a push for the new object `number` of its bucket, with its resource (JSON_API_V1)."""
    name = f"events/{number:06}.jpg"
    generation = str(1_700_000_000_000_000 + number)
    message = {
        "attributes": {
            "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/1",
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "JSON_API_V1",
            "bucketId": bucket,
            "objectId": name,
            "objectGeneration": generation,
            "eventTime": "2026-01-01T00:00:00.000001Z",
        },
        "data": base64.b64encode(json.dumps(_resource(bucket, name, generation)).encode()).decode(),
        "messageId": str(number),
        "publishTime": "2026-01-01T00:00:00.1Z",
    }
    return json.dumps({"subscription": "projects/benchmark/subscriptions/push", "message": message}).encode()


def _resource(bucket: str, name: str, generation: str) -> dict[str, str]:
    root = f"https://www.googleapis.com/storage/v1/b/{bucket}/o/{name}"
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "selfLink": root,
        "name": name,
        "bucket": bucket,
        "generation": generation,
        "metageneration": "1",
        "contentType": "image/jpeg",
        "timeCreated": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
        "storageClass": "STANDARD",
        "timeStorageClassUpdated": "2026-01-01T00:00:00.000Z",
        "size": "51200",
        "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg==",
        "mediaLink": f"{root}?generation={generation}&alt=media",
        "crc32c": "AAAAAA==",
        "etag": "CJizpcCd1YADEAE=",
    }
