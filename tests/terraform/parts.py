"""The parts of Cloud Run in a plan, with the instances and containers of each part."""

from collections.abc import Iterator
from typing import Any

from tests.terraform.workspace import Plan, Resource

CLOUD_RUN = ("cloud_run_v2_service", "cloud_run_v2_worker_pool", "cloud_run_v2_job")
#: The type of each part and the end of the part's address; a part's own container has the part's name.
PARTS = {
    "function": ("cloud_run_v2_service", ".this"),
    "worker": ("cloud_run_v2_worker_pool", ".this"),
    "migrations": ("cloud_run_v2_job", ".migrations"),
    "redrive": ("cloud_run_v2_job", ".redrive"),
}


def part(plan: Plan, name: str) -> dict[str, Any]:
    """The instance template of a part."""
    return instance_of(plan.one(*PARTS[name]))


def container_of(plan: Plan, name: str) -> dict[str, Any]:
    """A part's own container, without the proxy."""
    (found,) = [container for container in part(plan, name)["containers"] if container["name"] == name]
    return dict(found)


def containers(plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container of every part, with the address of the part."""
    for each in plan.of(*CLOUD_RUN):
        yield from ((each.address, container) for container in instance_of(each.values)["containers"])


def is_of_gallery(resource: Resource) -> bool:
    """Whether the resource belongs to the gallery's module."""
    return ".module.gallery[0]." in f".{resource.address}"


def split_command(command: list[str]) -> tuple[list[str], list[str], list[str]]:
    """The parts of a job's command: the options of `db.with_proxy`, the proxy, and Dropline's own command."""
    first = command.index("--")
    second = command.index("--", first + 1)
    return command[:first], command[first + 1 : second], command[second + 1 :]


def instance_of(values: dict[str, Any]) -> dict[str, Any]:
    """The instance template in a resource of Cloud Run; a job nests the template a level deeper."""
    template: dict[str, Any] = values["template"][0]
    inner: list[dict[str, Any]] = template.get("template", [])
    return inner[0] if inner else template
