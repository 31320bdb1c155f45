"""The policies for a plan with the gallery, which other machines can reach."""

from collections.abc import Iterator
from typing import Any

from tests.terraform.parts import instance_of, is_of_gallery
from tests.terraform.workspace import Plan, Policy

_AGENT = "@gcp-sa-iap.iam.gserviceaccount.com"
#: The right on objects by scope.
RIGHTS = {"read": "storage.objects.get", "submit": "storage.objects.create", "edit": "storage.objects.list"}


def service(plan: Plan) -> dict[str, Any]:
    """The gallery's service."""
    (found,) = [each.values for each in plan.of("cloud_run_v2_service") if is_of_gallery(each)]
    return found


def environment(plan: Plan) -> dict[str, Any]:
    """The gallery's environment; the value of a variable from a secret is the reference."""
    container = instance_of(service(plan))["containers"][0]
    return {each["name"]: each["value"] or each["value_source"] for each in container["env"]}


def rights(plan: Plan) -> dict[str, set[str]]:
    """The gallery's permissions on each bucket."""
    account = instance_of(service(plan))["service_account"]
    roles = {
        f"projects/{each.values['project']}/roles/{each.values['role_id']}": set(each.values["permissions"])
        for each in plan.of("project_iam_custom_role")
    }
    found: dict[str, set[str]] = {}
    for each in plan.of("storage_bucket_iam_member"):
        if each.values["member"] == f"serviceAccount:{account}":
            found.setdefault(each.values["bucket"], set()).update(roles.get(each.values["role"], ()))
    return found


def every_request_is_checked(plan: Plan) -> Iterator[str]:
    """Either Identity-Aware Proxy alone calls the gallery, or the gallery has tokens of its own."""
    found, variables = service(plan), environment(plan)
    invokers = [
        (each.values["role"], each.values["member"])
        for each in plan.of("cloud_run_v2_service_iam_member")
        if is_of_gallery(each)
    ]
    if found["iap_enabled"]:
        if found["invoker_iam_disabled"] or "DROPLINE_GALLERY__TOKENS" in variables:
            yield f"{found['name']} can be called past the proxy"
        if [role for role, member in invokers if member.endswith(_AGENT)] != ["roles/run.invoker"] or invokers[1:]:
            yield f"{found['name']} is called by {invokers}"
        if not str(variables.get("DROPLINE_GALLERY__IAP_AUDIENCE")).endswith(f"/services/{found['name']}"):
            yield f"{found['name']} verifies no header of the proxy: {variables}"
    elif not isinstance(variables.get("DROPLINE_GALLERY__TOKENS"), list) or invokers:
        yield f"{found['name']} has neither proxy nor tokens, or is called by {invokers}"


def a_removed_gallery_loses_its_login(plan: Plan) -> Iterator[str]:
    """The login is deleted with the gallery, whatever the default of the caller's provider is."""
    account = instance_of(service(plan))["service_account"].removesuffix(".gserviceaccount.com")
    for each in plan.of("sql_user"):
        if each.values["name"] == account and each.values["deletion_policy"] != "DELETE":
            yield f"{each.address} is left: {each.values['deletion_policy']}"


def nobody_is_admitted_by_default(plan: Plan) -> Iterator[str]:
    """The proxy admits named people, groups and domains alone."""
    for each in plan.of("iap_web_cloud_run_service_iam_member"):
        if each.values["member"].startswith("all") or each.values["role"] != "roles/iap.httpsResourceAccessor":
            yield f"{each.address} admits {each.values['member']} as {each.values['role']}"


def rights_follow_the_scopes(plan: Plan) -> Iterator[str]:
    """The rights on objects, the role in Postgres and the right to wake workers are those that the scopes need."""
    variables, may = environment(plan), rights(plan)
    scopes = {scope for scope, right in RIGHTS.items() if any(right in each for each in may.values())}
    creates = {bucket for bucket, each in may.items() if RIGHTS["submit"] in each}
    if creates and creates != {variables["DROPLINE_BUCKET"]}:
        yield f"uploads go to {variables['DROPLINE_BUCKET']}, and the account may create objects in {creates}"
    told = variables.get("DROPLINE_GALLERY__IAP_SCOPES")
    if told is not None and {scope for scope in RIGHTS if f'"{scope}"' in told} != scopes:
        yield f"the scopes are {told}, and the rights are for {scopes}"
    account = instance_of(service(plan))["service_account"].removesuffix(".gserviceaccount.com")
    command = plan.one("cloud_run_v2_job", ".migrations")["template"][0]["template"][0]["containers"][0]["command"]
    role = "dropline_reader" if scopes == {"read"} else "dropline_gallery"
    granted = [each for each in command if each.startswith("--grant=") and each.endswith(f"={account}")]
    if granted != [f"--grant={role}={account}"]:
        yield f"the login has {granted}, and the scopes are {scopes}"
    if "DROPLINE_POOL__NAME" in variables:
        yield "the gallery is told to change the worker pool by itself"
    if ("DROPLINE_POOL__WAKE_QUEUE" in variables) != (scopes != {"read"}):
        yield f"the scopes are {scopes}, and the gallery has {sorted(variables)}"


def redis_is_for_who_sends_messages(plan: Plan) -> Iterator[str]:
    """A gallery that only reads has no URL of Redis, no certificate, and no right to either secret."""
    account = f"serviceAccount:{instance_of(service(plan))['service_account']}"
    readers = plan.of("secret_manager_secret_iam_member")
    read = {
        each.values["secret_id"].rpartition("-redis-")[2]
        for each in readers
        if each.values["member"] == account and "-redis-" in each.values["secret_id"]
    }
    writes = any(RIGHTS[scope] in each for scope in ("submit", "edit") for each in rights(plan).values())
    if read != ({"url", "ca"} if writes else set()):
        yield f"the gallery may read {read} of Redis"
    if ("DROPLINE_BROKER__URL" in environment(plan)) != writes or bool(
        instance_of(service(plan))["volumes"]
    ) != writes:
        yield "the gallery's URL or certificate of Redis does not follow the scopes"


GALLERY_POLICIES: tuple[Policy, ...] = (
    every_request_is_checked,
    nobody_is_admitted_by_default,
    rights_follow_the_scopes,
    redis_is_for_who_sends_messages,
)
