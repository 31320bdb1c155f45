"""Rules of Cloud Storage that fake-gcs-server lacks: preconditions, metageneration, null, the 8 KiB limit."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

OBJECT = re.compile(r"/(?:download/)?storage/v1/b/(?P<bucket>[^/]+)/o/(?P<name>[^/]+)")
MAX_METADATA_BYTES = 8192

Resource = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """A response: of the server, or of the rules."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def resource(self) -> Resource:
        """The body as JSON."""
        parsed: Resource = json.loads(self.body)
        return parsed


#: Sends `(method, target, body)` to the server.
Send = Callable[[str, str, bytes], Answer]


def refused(status: int, message: str) -> Answer:
    """An error in the form of Cloud Storage."""
    error = {"code": status, "message": message, "errors": [{"reason": message, "message": message}]}
    return as_json(status, {"error": error})


def as_json(status: int, resource: Resource) -> Answer:
    """A JSON response."""
    return Answer(status, json.dumps(resource).encode(), {"Content-Type": "application/json"})


class CloudStorageRules:
    """Applies the rules to requests for single objects; the caller serialises them."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._patches: dict[tuple[str, str, str], int] = {}

    def patch(self, path: str, query: Mapping[str, str], body: bytes) -> Answer:
        """Merge metadata under the preconditions; null deletes a key."""
        current, refusal = self._current(path, query)
        if refusal is not None:
            return refusal
        changes = json.loads(body)
        metadata = changes.pop("metadata", None) or {}
        merged = (current.get("metadata") or {}) | metadata
        kept = {key: value for key, value in merged.items() if value is not None}
        if sum(len(key.encode()) + len(value.encode()) for key, value in kept.items()) > MAX_METADATA_BYTES:
            return refused(400, "The metadata for the object is too large.")
        # The server's PATCH keeps unnamed keys, its PUT does not: both together can delete a key.
        self._send("PATCH", path, json.dumps(changes | {"metadata": kept}).encode())
        if kept != merged:
            self._send("PUT", path, json.dumps({"metadata": kept}).encode())
        key = _key(current)
        self._patches[key] = self._patches.get(key, 0) + 1
        return as_json(200, self.shown(self._send("GET", path, b"").resource))

    def check(self, path: str, query: Mapping[str, str]) -> Answer | None:
        """The refusal of a read or deletion whose preconditions fail; None if all hold."""
        return self._current(path, query)[1]

    def shown(self, resource: Resource) -> Resource:
        """The resource, or the list of resources, with real metagenerations."""
        # The answer to a deletion is null.
        if not resource:
            return resource
        if "items" in resource:
            return resource | {"items": [self.shown(item) for item in resource["items"]]}
        if "generation" not in resource:
            return resource
        return resource | {"metageneration": str(1 + self._patches.get(_key(resource), 0))}

    def _current(self, path: str, query: Mapping[str, str]) -> tuple[Resource, Answer | None]:
        answer = self._send("GET", path, b"")
        if answer.status != 200:
            return {}, answer
        current = self.shown(answer.resource)
        if query.get("generation", current["generation"]) != current["generation"]:
            name = unquote(path.rsplit("/", 1)[-1])
            return current, refused(404, f"No such object: {name}#{query['generation']}")
        return current, None if _holds(current, query) else refused(412, "conditionNotMet")


def _holds(current: Resource, query: Mapping[str, str]) -> bool:
    return all(
        query.get(f"if{kind.capitalize()}Match", current[kind]) == current[kind]
        and query.get(f"if{kind.capitalize()}NotMatch") != current[kind]
        for kind in ("generation", "metageneration")
    )


def _key(resource: Resource) -> tuple[str, str, str]:
    return resource["bucket"], resource["name"], resource["generation"]
