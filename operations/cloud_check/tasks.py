"""The region of the queue of Cloud Tasks, which scale to zero needs."""

from collections.abc import Iterator

from operations.cloud_check.api import Api, Refused
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.needs import NEAR_TASKS_REGION, TASKS_REGIONS
from operations.cloud_check.project import unchecked

_HOST = "cloudtasks.googleapis.com"


def check_tasks(api: Api, plan: Plan) -> Iterator[Finding]:
    """The region of the queue has Cloud Tasks."""
    try:
        listed = _list_regions(api, plan)
    except Refused as refused:
        yield _check_region(plan, ())
        # Before the first apply the API is disabled as a rule, and the part `services` has the command for it.
        if not refused.is_disabled:
            yield unchecked(plan, "tasks", refused, "roles/cloudtasks.viewer")
        return
    yield _check_region(plan, listed)


def _list_regions(api: Api, plan: Plan) -> tuple[str, ...]:
    """The regions of `projects.locations.list`, of all pages."""
    regions: set[str] = set()
    page: dict[str, str] = {}
    while True:
        found = api.get(_HOST, f"v2/projects/{plan.project}/locations", pageSize=100, **page)
        regions |= {str(each["locationId"]) for each in found.get("locations", []) if each.get("locationId")}
        if not (token := found.get("nextPageToken")):
            return tuple(sorted(regions))
        page = {"pageToken": str(token)}


def _check_region(plan: Plan, listed: tuple[str, ...]) -> Finding:
    """Cloud Tasks' list decides; without it, Dropline's own list can only warn."""
    regions, region = listed or TASKS_REGIONS, plan.queue_region
    if region in regions:
        instead = "" if region == plan.region else f", for {plan.region}"
        return Finding(Level.OK, "tasks", f"{region} has Cloud Tasks{instead}: the queue of scale to zero")
    source = "Cloud Tasks does not exist in" if listed else "Dropline's list of regions with Cloud Tasks lacks"
    text = (
        f"{source} {region}, the region of the queue of scale to zero: give Terraform `tasks_region`, or "
        f"worker_scale_to_zero = false; regions with Cloud Tasks: {', '.join(regions)}"
    )
    command = (
        f"terraform -chdir=terraform/examples/minimal apply -var=project={plan.project} -var=region={plan.region} "
        f"-var=tasks_region={_near(plan.region, regions)}"
    )
    return Finding(Level.BLOCKED if listed else Level.WARNING, "tasks", text, (command,))


def _near(region: str, regions: tuple[str, ...]) -> str:
    """A region of the list: the near one of Dropline's table, else one of the same continent, else the first."""
    near = NEAR_TASKS_REGION.get(region, region)
    continent = region.partition("-")[0]
    same = [each for each in regions if each.partition("-")[0] == continent]
    return near if near in regions else (same or regions)[0]
