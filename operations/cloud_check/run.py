"""The whole check."""

import contextlib
import re
from collections.abc import Iterator

from dropline.errors import ClientError
from operations.cloud_check.api import open_api
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.names import check_names
from operations.cloud_check.policies import check_policies
from operations.cloud_check.project import (
    check_billing,
    check_rights,
    check_services,
    is_project_id,
    read_project,
)
from operations.cloud_check.quota import check_gpus
from operations.cloud_check.tasks import check_tasks


def check(plan: Plan, endpoint: str = "") -> Iterator[Finding]:
    """Yield the findings, part by part; requests only read.

    Args:
        plan: the deployment.
        endpoint: address of a stand-in for Google's APIs; empty: Google, with the environment's credentials.

    Raises:
        ClientError: the project or the region has a wrong form, or no such project.
        AccessDenied: no credentials, or the project cannot be read with them.
        CloudUnavailable: an API cannot be reached.
    """
    _check_forms(plan)
    with contextlib.closing(open_api(plan.project, endpoint)) as api:
        project = read_project(api, plan)
        yield Finding(Level.OK, "project", f"{plan.project} is active, number {project.number}")
        yield from check_billing(api, plan)
        yield from check_services(api, plan)
        yield from check_rights(api, plan)
        yield from check_gpus(api, plan)
        yield from check_tasks(api, plan)
        yield from check_names(api, plan, project)
        yield from check_policies(api, plan, project)


def _check_forms(plan: Plan) -> None:
    if not is_project_id(plan.project):
        raise ClientError(
            f"{plan.project!r} is not the id of a project, such as my-project: see `gcloud projects list`"
        )
    for region in (plan.region, plan.queue_region):
        if not re.fullmatch(r"[a-z]+-[a-z]+[0-9]+", region):
            raise ClientError(f"{region!r} is not a region, such as europe-west4")
    for name in (plan.state, plan.drops):
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", name):
            raise ClientError(f"{name!r} is not the name of a bucket: 3 to 63 of a-z, 0-9, '-', '_' and '.'")
