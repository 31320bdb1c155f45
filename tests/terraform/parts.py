"""Where things stand in what is planned for Cloud Run: its parts, their instances, their containers."""

from collections.abc import Iterator
from typing import Any

from tests.terraform.workspace import Plan

CLOUD_RUN = ("cloud_run_v2_service", "cloud_run_v2_worker_pool", "cloud_run_v2_job")
#: Each part's type, and how its address ends; a part's own container has its name.
PARTS = {
    "function": ("cloud_run_v2_service", ".this"),
    "worker": ("cloud_run_v2_worker_pool", ".this"),
    "migrations": ("cloud_run_v2_job", ".migrations"),
    "redrive": ("cloud_run_v2_job", ".redrive"),
}


def part(plan: Plan, name: str) -> dict[str, Any]:
    """What a part's instances are made from."""
    return instance_of(plan.one(*PARTS[name]))


def container_of(plan: Plan, name: str) -> dict[str, Any]:
    """A part's own container, without the proxy beside it."""
    (found,) = [container for container in part(plan, name)["containers"] if container["name"] == name]
    return dict(found)


def containers(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of every part, with the address of its part."""
    for each in plan.of(*CLOUD_RUN):
        yield from ((each.address, container) for container in instance_of(each.values)["containers"])


def instance_of(values: dict[str, Any]) -> dict[str, Any]:
    """What instances are made from; a job's is one level deeper."""
    template: dict[str, Any] = values["template"][0]
    inner: list[dict[str, Any]] = template.get("template", [])
    return inner[0] if inner else template
