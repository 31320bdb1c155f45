"""What is read of a worker pool: what decides its fingerprint, and which conditions are failures."""

from typing import Any

import pytest

from dropline.scaling.pool_document import PoolDocument

POOL: dict[str, Any] = {
    "name": "projects/p/locations/l/workerPools/w",
    "etag": "1",
    "scaling": {"manualInstanceCount": 1, "scalingMode": "MANUAL"},
    "template": {"containers": [{"image": "worker:1", "env": [{"name": "A", "value": "1"}]}], "client": "gcloud"},
}


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"etag": "2", "scaling": {"manualInstanceCount": 0}, "labels": {"a": "b"}}, False),
        ({"template": {**POOL["template"], "client": "terraform", "revision": "w-2"}}, False),
        ({"template": {"containers": [{"image": "worker:2"}]}}, True),
        ({"template": {**POOL["template"], "containers": [{"image": "worker:1", "env": []}]}}, True),
    ],
)
def test_the_fingerprint_is_that_of_image_and_settings(change: dict[str, Any], is_another: bool) -> None:
    """The number of instances, an etag and the name of the client do not change what runs."""
    assert (PoolDocument(POOL | change).fingerprint != PoolDocument(POOL).fingerprint) is is_another


def test_the_whole_pool_goes_back_with_another_number() -> None:
    """Every other field is as read."""
    changed = PoolDocument(POOL).with_instances(3)
    assert changed == POOL | {"scaling": {"manualInstanceCount": 3, "scalingMode": "MANUAL"}}
    assert (PoolDocument(changed).instances, PoolDocument({}).instances) == (3, None)


def test_failed_conditions_are_named_once() -> None:
    """Conditions that are met, or still pending, are no failure."""
    failed = {"type": "Ready", "state": "CONDITION_FAILED", "reason": "X", "message": "no GPU"}
    met = {"type": "Ok", "state": "CONDITION_SUCCEEDED"}
    pending = {"type": "Later", "state": "CONDITION_PENDING", "message": "soon"}
    document = PoolDocument({"terminalCondition": failed, "conditions": [met, failed, pending]})
    assert document.failure == "Ready X: no GPU"
    assert PoolDocument({}).failure == ""
