"""Taken names: those of the buckets, unique worldwide, and of the registry."""

from collections.abc import Iterator
from dataclasses import dataclass

from operations.cloud_check.api import Api, Refused
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.project import Project, unchecked


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A bucket that a later command makes or takes."""

    name: str
    #: The text and level for a bucket of the project, and a command; may be empty.
    own: Finding
    #: The command with another name.
    other: str
    #: A bucket of another project is right, too.
    may_be_foreign: bool = False
    #: The level for a name that is taken.
    taken: Level = Level.BLOCKED


def check_names(api: Api, plan: Plan, project: Project) -> Iterator[Finding]:
    """The buckets are free or the project's, and the registry is free or one for containers."""
    for wanted in _buckets(plan):
        yield _bucket(api, plan, project, wanted)
    yield _registry(api, plan)


def _buckets(plan: Plan) -> Iterator[_Wanted]:
    images = f"make images PROJECT={plan.project} REGION={plan.region}"
    yield _Wanted(
        plan.state,
        Finding(Level.OK, "names", f"gs://{plan.state} is there, for Terraform's state"),
        f"{images} STATE_BUCKET=NAME",
        # Anybody can make a bucket with the default name, and would get the state: only a bucket that the caller
        # has named may be another project's.
        may_be_foreign=plan.names_state,
    )
    yield _Wanted(
        plan.builds,
        Finding(Level.OK, "names", f"gs://{plan.builds} is there, for the sources of the builds"),
        f"{images} BUILDS_BUCKET=NAME",
        # `make images` with another name is enough: the check has no option for it, so it must not stay blocked.
        taken=Level.WARNING,
    )
    text = (
        f"gs://{plan.drops} is there already: right if an earlier apply made it; else `terraform apply` fails, "
        "and needs the bucket in `buckets` with create = false, or another `name`"
    )
    yield _Wanted(
        plan.drops,
        Finding(Level.WARNING, "names", text, (f"gcloud storage buckets describe gs://{plan.drops}",)),
        f"dropline cloud check --project {plan.project} --region {plan.region} --name OTHER",
    )


def _bucket(api: Api, plan: Plan, project: Project, wanted: _Wanted) -> Finding:
    name = wanted.name
    try:
        found = api.get("storage.googleapis.com", f"storage/v1/b/{name}", projection="noAcl")
    except Refused as refused:
        if refused.is_missing:
            return Finding(Level.OK, "names", f"gs://{name} is free")
        if refused.status == 403 and not refused.is_disabled:
            text = (
                f"gs://{name} is there, and you may not read it: most likely another project's; take another name"
            )
            return Finding(wanted.taken, "names", text, (wanted.other,))
        return unchecked(plan, "names", refused, "roles/storage.admin")
    owner = str(found.get("projectNumber"))
    if owner == project.number:
        return wanted.own
    if wanted.may_be_foreign:
        text = f"gs://{name} is there, in another project ({owner}): your account must be able to write objects"
        return Finding(Level.OK, "names", text)
    text = f"gs://{name} belongs to another project (number {owner}); take another name"
    return Finding(wanted.taken, "names", text, (wanted.other,))


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
