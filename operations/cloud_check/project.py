"""The project, with billing, services, and the caller's rights."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dropline.errors import AccessDenied, ClientError
from operations.cloud_check.api import CLIENT_BASED, Api, Refused
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.needs import IMAGES_SERVICES, PERMISSIONS, SERVICES

_MANAGER = "cloudresourcemanager.googleapis.com"


@dataclass(frozen=True, slots=True)
class Project:
    """Values of the project for the other parts."""

    #: As Cloud Storage names the owner of a bucket.
    number: str


def read_project(api: Api, plan: Plan) -> Project:
    """Read the project.

    Raises:
        ClientError: no such project, or one in deletion.
        AccessDenied: the caller may not see the project, or Resource Manager's API is disabled.
    """
    try:
        found = api.get(_MANAGER, f"v3/projects/{plan.project}")
    except Refused as refused:
        if refused.is_disabled:
            raise AccessDenied(
                f"the check needs Resource Manager's API: {refused.message}; run: {enable(plan, _MANAGER)}"
            ) from refused
        if refused.lacks_project or refused.may_not_use_project:
            raise AccessDenied(
                f"your login has no project that its requests can be counted for: {refused.message}; run: "
                f"{count_for(plan)}"
            ) from refused
        if refused.status in (403, 404):
            raise ClientError(
                f"the project {plan.project} does not exist, or your account may not see it: compare the id with "
                f"`gcloud projects list`, and the account with `gcloud auth list` ({refused.message})"
            ) from refused
        raise ClientError(f"the project {plan.project} cannot be read: {refused.message}") from refused
    if found.get("state") != "ACTIVE":
        raise ClientError(
            f"the project {plan.project} is {found.get('state')}: gcloud projects undelete {plan.project}"
        )
    return Project(str(found["name"]).removeprefix("projects/"))


def enable(plan: Plan, *services: str) -> str:
    """The command for enabling services."""
    return f"gcloud services enable {' '.join(services)} --project={plan.project}"


def unchecked(plan: Plan, part: str, refused: Refused, right: str) -> Finding:
    """A part without a check: the API is disabled, a right is missing, or the login has no project."""
    if refused.is_disabled:
        place = f" in {refused.consumer}" if refused.consumer else ""
        text = f"not checked: the API {refused.host} is disabled{place}"
        return Finding(Level.WARNING, part, text, (enable(plan, refused.host),))
    text = f"not checked: {refused.host} answered {refused.status}: {refused.message}"
    return Finding(Level.WARNING, part, text, _remedy(plan, refused, right))


def _remedy(plan: Plan, refused: Refused, right: str) -> tuple[str, ...]:
    denied = refused.may_not_use_project
    if refused.lacks_project or (denied and refused.host not in CLIENT_BASED):
        return (count_for(plan),)
    if denied:
        right = PERMISSIONS["serviceusage.services.use"]
    return (grant(plan, right),) if refused.status == 403 else ()


def count_for(plan: Plan) -> str:
    """The command for having the requests of the application default credentials counted for the project."""
    return f"gcloud auth application-default set-quota-project {plan.project}"


def grant(plan: Plan, role: str) -> str:
    """The command for granting the caller a role."""
    member = '"user:$(gcloud config get-value account)"'
    return (
        f"gcloud projects add-iam-policy-binding {plan.project} --member={member} --role={role} --condition=None"
    )


def check_billing(api: Api, plan: Plan) -> Iterator[Finding]:
    """The project has a billing account."""
    try:
        found = api.get("cloudbilling.googleapis.com", f"v1/projects/{plan.project}/billingInfo")
    except Refused as refused:
        yield unchecked(plan, "billing", refused, "roles/billing.projectManager")
        return
    if found.get("billingEnabled"):
        yield Finding(Level.OK, "billing", f"enabled: {found.get('billingAccountName', '')}")
        return
    link = f"gcloud billing projects link {plan.project} --billing-account=ACCOUNT_ID"
    yield Finding(
        Level.BLOCKED, "billing", "the project has no open billing account", ("gcloud billing accounts list", link)
    )


def check_services(api: Api, plan: Plan) -> Iterator[Finding]:
    """Each needed service is enabled, or is enabled by a later command."""
    parent = f"projects/{plan.project}"
    try:
        found = api.get(
            "serviceusage.googleapis.com",
            f"v1/{parent}/services:batchGet",
            names=[f"{parent}/services/{service}" for service in SERVICES],
        )
    except Refused as refused:
        yield unchecked(plan, "services", refused, "roles/serviceusage.serviceUsageAdmin")
        return
    # Google answers with the project's number in place of its id.
    enabled = {str(each["name"]).rpartition("/")[2] for each in found.get("services", []) if is_enabled(each)}
    missing = [service for service in SERVICES if service not in enabled]
    for services, by in ((IMAGES_SERVICES, "make images"), (SERVICES, "terraform apply")):
        later = [service for service in missing if service in services]
        missing = [service for service in missing if service not in services]
        if later:
            text = f"`{by}` enables {', '.join(later)}"
            yield Finding(Level.LATER, "services", text, (enable(plan, *later),))
    if enabled.issuperset(SERVICES):
        yield Finding(Level.OK, "services", f"all {len(SERVICES)} are enabled")


def is_enabled(service: dict[str, object]) -> bool:
    """True for a service with the state ENABLED."""
    return service.get("state") == "ENABLED"


def check_rights(api: Api, plan: Plan) -> Iterator[Finding]:
    """The caller has each needed permission on the project."""
    try:
        answer = api.post(
            _MANAGER, f"v3/projects/{plan.project}:testIamPermissions", {"permissions": sorted(PERMISSIONS)}
        )
    except Refused as refused:
        yield unchecked(plan, "rights", refused, "roles/browser")
        return
    held = set(answer.get("permissions", []))
    missing: dict[str, list[str]] = {}
    for permission, role in PERMISSIONS.items():
        if permission not in held:
            missing.setdefault(role, []).append(permission)
    for role, permissions in missing.items():
        text = f"your account lacks {', '.join(permissions)}; a project owner can grant {role}"
        yield Finding(Level.BLOCKED, "rights", text, (grant(plan, role),))
    if not missing:
        yield Finding(Level.OK, "rights", f"your account has all {len(PERMISSIONS)} permissions asked for")


def is_project_id(text: str) -> bool:
    """True for the form of a project id."""
    return re.fullmatch(r"(?:[a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]", text) is not None
