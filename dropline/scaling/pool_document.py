"""A worker pool as Cloud Run's Admin API describes it (`projects.locations.workerPools`), read without I/O."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: Fields of the template that Cloud Run or a client fills in; they do not decide what runs.
_NAMES_OF_CLIENTS = frozenset({"client", "clientVersion", "revision"})
_LONGEST_WORDS = 1000


@dataclass(frozen=True, slots=True)
class PoolDocument:
    """The answer to a GET of a worker pool."""

    #: The JSON, whole: a PATCH sends it back.
    fields: Mapping[str, Any]

    @property
    def instances(self) -> int | None:
        """The wanted number of instances; None: the answer has none."""
        found = self._scaling.get("manualInstanceCount")
        return found if isinstance(found, int) else None

    @property
    def fingerprint(self) -> str:
        """Changes with the image, the settings and the resources of the instances, and with nothing else."""
        template = self.fields.get("template")
        kept = {key: value for key, value in template.items() if key not in _NAMES_OF_CLIENTS} if template else {}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def failure(self) -> str:
        """The conditions that are not met, in words; empty: none is known."""
        found = [self.fields.get("terminalCondition"), *(self.fields.get("conditions") or [])]
        words = [_words(each) for each in found if isinstance(each, Mapping) and _has_failed(each)]
        return "; ".join(dict.fromkeys(words))[:_LONGEST_WORDS]

    def with_instances(self, instances: int) -> dict[str, Any]:
        """The whole worker pool with another number of instances, etag included."""
        return {**self.fields, "scaling": {**self._scaling, "manualInstanceCount": instances}}

    @property
    def _scaling(self) -> Mapping[str, Any]:
        found = self.fields.get("scaling")
        return found if isinstance(found, Mapping) else {}


def _has_failed(condition: Mapping[str, Any]) -> bool:
    return condition.get("state") == "CONDITION_FAILED"


def _words(condition: Mapping[str, Any]) -> str:
    reason = condition.get("reason") or condition.get("revisionReason") or condition.get("executionReason")
    named = [str(each) for each in (condition.get("type"), reason) if each]
    return f"{' '.join(named)}: {condition.get('message', '')}"
