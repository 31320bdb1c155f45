"""What `dropline cloud check` asks for, against Terraform, `make images` and the page."""

import re

from operations.cloud_check.findings import Plan
from operations.cloud_check.needs import (
    GPU_QUOTA,
    GPU_REGIONS,
    IMAGES_SERVICES,
    NEAR_TASKS_REGION,
    PERMISSIONS,
    SERVICES,
    TASKS_REGIONS,
)
from operations.cloud_check.policies import CONSTRAINTS
from tests.support.pages import ROOT

PAGE = (ROOT / "docs" / "deploy.md").read_text()
#: Roles without a part in the deployment itself, roles for the check, and a role for a gallery with members alone.
_OTHER_ROLES = {
    "roles/iap.admin",
    "roles/cloudquotas.viewer",
    "roles/cloudquotas.admin",
    "roles/billing.costsManager",
}


def services_in(text: str) -> set[str]:
    return set(re.findall(r"\b[a-z]+\.googleapis\.com\b", text))


def test_the_services_are_those_that_are_enabled() -> None:
    """The tables equal the services of the script and of Terraform's list."""
    script = (ROOT / "tools" / "cloud_images.sh").read_text()
    assert services_in(script) == set(IMAGES_SERVICES)
    listed = re.search(
        r"for_each = toset\(concat\(\s*\[(.*?)\]", (ROOT / "terraform" / "services.tf").read_text(), re.DOTALL
    )
    assert listed
    assert set(SERVICES) == services_in(listed[1]) | set(IMAGES_SERVICES)


def test_the_roles_are_those_of_the_page() -> None:
    """Each role of the page has a permission that is asked for."""
    section = PAGE.partition("## Rights for the apply")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(roles/[\w.]+)`", section)) - _OTHER_ROLES == set(PERMISSIONS.values())


def test_quota_regions_and_constraints_are_those_of_the_page() -> None:
    """The page names the quota's id, each region, and each constraint."""
    assert GPU_QUOTA in PAGE
    assert [each for each in GPU_REGIONS if f"`{each}`" not in PAGE] == []
    assert [each.name for each in CONSTRAINTS if f"`{each.name}`" not in PAGE] == []


def test_the_queue_is_where_terraform_makes_it() -> None:
    """The tables of near regions are equal; each leads from a region without Cloud Tasks to one that has it."""
    wake = (ROOT / "terraform" / "modules" / "worker" / "wake.tf").read_text()
    table = re.search(r"near_tasks_region = \{\n(.*?)\n  \}", wake, re.DOTALL)
    assert table
    assert dict(re.findall(r'^ +([a-z0-9-]+) += "([a-z0-9-]+)"$', table[1], re.MULTILINE)) == NEAR_TASKS_REGION
    assert set(NEAR_TASKS_REGION.values()) <= set(TASKS_REGIONS)
    assert not NEAR_TASKS_REGION.keys() & set(TASKS_REGIONS)


def test_every_region_with_gpus_has_a_queue() -> None:
    """With the default of `tasks_region`, no region with GPUs has its queue where Cloud Tasks does not exist."""
    queues = {region: Plan("my-project", region).queue_region for region in GPU_REGIONS}
    assert [region for region, queue in queues.items() if queue not in TASKS_REGIONS] == []
    assert queues["europe-west4"] == "europe-west1"
