"""Policies for a project that never ran Dropline: service agents and waits."""

import re
from collections.abc import Iterator

from tests.terraform.workspace import Plan, Policy

#: Shortest wait in seconds after services are enabled, and after roles that something needs at once.
WAITS = {"services": 60, "secrets": 120, "logins": 120, "objects": 120, "publishers": 120}
#: The agent of a service: service-NUMBER@gcp-sa-SERVICE.iam.gserviceaccount.com.
_AGENT = re.compile(r"@gcp-sa-([a-z]+)\.iam\.gserviceaccount\.com$")


def what_takes_minutes_is_waited_for(plan: Plan) -> Iterator[str]:
    """Every wait is planned, and is long enough; the gallery adds one for its tokens."""
    found = {each.values["triggers"]["of"]: each.values["create_duration"] for each in plan.of("time_sleep")}
    if missing := WAITS.keys() - found.keys():
        yield f"no wait is planned for {', '.join(sorted(missing))}"
    for name, least_s in WAITS.items():
        if name in found and int(found[name].removesuffix("s")) < least_s:
            yield f"the wait for {name} is {found[name]}, less than {least_s} s"


def agents_exist_before_their_roles(plan: Plan) -> Iterator[str]:
    """A service agent gets a role only if Terraform creates it; that of Cloud Storage comes by a data source."""
    created = {each.values["service"].partition(".")[0] for each in plan.of("project_service_identity")}
    for each in plan.resources:
        if (agent := _AGENT.search(str(each.values.get("member", "")))) and agent[1] not in created:
            yield f"{each.address} is for {each.values['member']}, which may not exist"


FRESH_POLICIES: tuple[Policy, ...] = (what_takes_minutes_is_waited_for, agents_exist_before_their_roles)
