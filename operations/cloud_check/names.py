"""Taken names: those of the buckets, unique worldwide, and of the registry."""

from collections.abc import Iterator

from operations.cloud_check.api import Api, Refused
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.project import Project, unchecked


def check_names(api: Api, plan: Plan, project: Project) -> Iterator[Finding]:
    """The buckets are free or the project's, and the registry is free or one for containers."""
    yield _bucket(
        api,
        plan,
        project,
        plan.state,
        Finding(Level.OK, "names", f"gs://{plan.state} is there, for Terraform's state"),
        f"make images PROJECT={plan.project} REGION={plan.region} STATE_BUCKET=NAME",
    )
    theirs = f"gcloud storage buckets describe gs://{plan.drops}"
    own = Finding(
        Level.WARNING,
        "names",
        f"gs://{plan.drops} is there already: right if an earlier apply made it; else `terraform apply` fails, "
        "and needs the bucket in `buckets` with create = false, or another `name`",
        (theirs,),
    )
    yield _bucket(
        api,
        plan,
        project,
        plan.drops,
        own,
        f"dropline cloud check --project {plan.project} --region {plan.region} --name OTHER",
    )
    yield _registry(api, plan)


def _bucket(api: Api, plan: Plan, project: Project, name: str, own: Finding, other: str) -> Finding:
    try:
        found = api.get("storage.googleapis.com", f"storage/v1/b/{name}", projection="noAcl")
    except Refused as refused:
        if refused.is_missing:
            return Finding(Level.OK, "names", f"gs://{name} is free")
        if refused.status == 403 and not refused.is_disabled:
            text = (
                f"gs://{name} is there, and you may not read it: most likely another project's; take another name"
            )
            return Finding(Level.BLOCKED, "names", text, (other,))
        return unchecked(plan, "names", refused, "roles/storage.admin")
    if str(found.get("projectNumber")) == project.number:
        return own
    text = f"gs://{name} belongs to another project (number {found.get('projectNumber')}); take another name"
    return Finding(Level.BLOCKED, "names", text, (other,))


def _registry(api: Api, plan: Plan) -> Finding:
    path = f"v1/projects/{plan.project}/locations/{plan.region}/repositories/dropline"
    name = f"{plan.region}-docker.pkg.dev/{plan.project}/dropline"
    try:
        found = api.get("artifactregistry.googleapis.com", path)
    except Refused as refused:
        if refused.is_missing or refused.is_disabled:
            return Finding(Level.LATER, "names", f"`make images` makes the registry {name}")
        return unchecked(plan, "names", refused, "roles/artifactregistry.admin")
    if found.get("format") == "DOCKER":
        return Finding(Level.OK, "names", f"the registry {name} is there")
    text = f"the registry {name} is one for {found.get('format')}, not for containers"
    delete = f"gcloud artifacts repositories delete dropline --location={plan.region} --project={plan.project}"
    return Finding(Level.BLOCKED, "names", text, (delete,))
