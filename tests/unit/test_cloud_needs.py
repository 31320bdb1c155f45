"""What `dropline cloud check` asks for, against Terraform, `make images` and the page."""

import re

from operations.cloud_check.needs import GPU_QUOTA, GPU_REGIONS, IMAGES_SERVICES, PERMISSIONS, SERVICES
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
