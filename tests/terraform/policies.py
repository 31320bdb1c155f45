"""The policies for every plan. A policy yields a sentence for each breach; `mutations.py` breaks every policy."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.terraform.fresh_policies import FRESH_POLICIES
from tests.terraform.parts import container_of, containers, is_of_gallery
from tests.terraform.run_policies import RUN_POLICIES
from tests.terraform.sleep_policies import SLEEP_POLICIES
from tests.terraform.workspace import PROJECT, SCHEMA, Plan, Policy

_PUBLIC = {"allUsers", "allAuthenticatedUsers"}
#: Roles that a plan may give for the whole project, and only under a condition.
_PROJECT_ROLES = {"roles/cloudsql.client", "roles/cloudsql.instanceUser"}
#: All of Google's roles that a plan may give; Dropline's custom roles are allowed too.
_ROLES = {
    *_PROJECT_ROLES,
    "roles/cloudtasks.enqueuer",
    "roles/iap.httpsResourceAccessor",
    "roles/iam.serviceAccountOpenIdTokenCreator",
    "roles/iam.serviceAccountUser",
    "roles/pubsub.publisher",
    "roles/pubsub.subscriber",
    "roles/run.invoker",
    "roles/secretmanager.secretAccessor",
}
_PASSWORD_IN_URL = re.compile(r"://[^/@\s]*:[^/@\s]+@")
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|BROKER__URL")
#: `--token=…`, `--db-password …`, `password=…`.
_SECRET_GIVEN = re.compile(r"(?i)(?:--?[\w-]*(?:passw|secret|token)[\w-]*(?:=|\s+)|\bpassw\w*\s*=\s*)(?!-)\S")
_DAY_S = 86_400
#: The promises of the pages: resource type, end of the address, attribute, value.
_KEPT = (
    ("storage_bucket", "", "soft_delete_policy.retention_duration_seconds", 7 * _DAY_S),
    ("sql_database_instance", "", "settings.backup_configuration.backup_retention_settings.retained_backups", 14),
    ("sql_database_instance", "", "settings.backup_configuration.transaction_log_retention_days", 7),
    ("pubsub_topic", ".objects", "message_retention_duration", f"{7 * _DAY_S}s"),
    ("pubsub_subscription", ".push", "message_retention_duration", f"{7 * _DAY_S}s"),
    ("pubsub_subscription", ".dead_letters", "message_retention_duration", f"{31 * _DAY_S}s"),
)
_EVENTS = {"OBJECT_FINALIZE", "OBJECT_DELETE", "OBJECT_ARCHIVE"}
#: The only permission of a custom role that is given for the whole project: operations belong to it.
_FOLLOWER = {"run.operations.get"}
#: The permissions of the custom roles: captioning, changing the number of workers, and reading what became of it.
_CUSTOM_ROLES = (
    _FOLLOWER,
    {"storage.objects.get", "storage.objects.list", "storage.objects.update"},
    {"run.workerpools.get", "run.workerpools.update"},
    # The gallery, with the scopes read, edit and submit; the last has a role of its own.
    {"storage.objects.get"},
    {"storage.objects.get", "storage.objects.list"},
    {"storage.objects.create"},
)
#: The end of the custom role's name with rights on a bucket, by process.
_STORAGE_ROLES = {"worker": "_capt", "gallery": "_(?:gallery|uploads)"}


def no_public_access(plan: Plan) -> Iterator[str]:
    """No role is given to the public, and Postgres has no public address."""
    for each in plan.resources:
        if each.values.get("member") in _PUBLIC:
            yield f"{each.address} gives {each.values['role']} to everybody"
    for each in plan.of("sql_database_instance"):
        if _settings(each.values)["ip_configuration"][0]["ipv4_enabled"] is not False:
            yield f"{each.address} has a public address"


def no_open_doors(plan: Plan) -> Iterator[str]:
    """No bucket can be made public, and no service but the gallery can be reached from outside."""
    for each in plan.of("storage_bucket"):
        if each.values["public_access_prevention"] != "enforced" or not each.values["uniform_bucket_level_access"]:
            yield f"{each.address} can be made public"
    for each in plan.of("cloud_run_v2_service"):
        if is_of_gallery(each):
            continue
        if each.values["ingress"] != "INGRESS_TRAFFIC_INTERNAL_ONLY" or each.values["invoker_iam_disabled"]:
            yield f"{each.address} can be reached from outside"


def no_broad_roles(plan: Plan) -> Iterator[str]:
    """Only narrow roles and Dropline's own are given; for the whole project, one login and one look."""
    ours = {
        f"projects/{each.values['project']}/roles/{each.values['role_id']}"
        for each in plan.of("project_iam_custom_role")
    }
    for each in plan.resources:
        role = each.values.get("role")
        if role and role not in _ROLES | ours:
            yield f"{each.address} gives {role}"
    followers = {
        f"projects/{PROJECT}/roles/{each.values['role_id']}"
        for each in plan.of("project_iam_custom_role")
        if set(each.values["permissions"]) == _FOLLOWER
    }
    for each in plan.of("project_iam_member"):
        if each.values["role"] in followers:
            continue
        if each.values["role"] not in _PROJECT_ROLES or not each.values["condition"]:
            yield f"{each.address} gives {each.values['role']} for the whole project"


def no_keys(plan: Plan) -> Iterator[str]:
    """No service account has a key file."""
    yield from (f"{each.address} is a key" for each in plan.of("service_account_key"))


def secrets_come_from_secret_manager(plan: Plan) -> Iterator[str]:
    """Neither an environment nor a login holds a password."""
    for address, container in containers(plan):
        for variable in container["env"]:
            value = variable["value"] or ""
            if value and _SECRET_NAME.search(variable["name"]):
                yield f"{address} has {variable['name']} in plain text"
            if _holds_a_secret(value):
                yield f"{address} has a password in {variable['name']}"
    for each in plan.of("sql_user"):
        if each.values["password"] or not each.values["type"].startswith("CLOUD_IAM_"):
            yield f"{each.address} logs in with a password"


def arguments_hold_no_secrets(plan: Plan) -> Iterator[str]:
    """No command and no argument holds a password, because every reader of the job sees both."""
    for address, container in containers(plan):
        if _holds_a_secret(" ".join([*(container["command"] or ()), *(container["args"] or ())])):
            yield f"{address} has a password in an argument"


def secrets_are_read_by_name(plan: Plan) -> Iterator[str]:
    """Only Dropline's service accounts may read a secret, and reading is their only right."""
    ours = {account.values["member"] for account in plan.of("service_account")}
    for each in plan.of("secret_manager_secret_iam_member"):
        if each.values["member"] not in ours or each.values["role"] != "roles/secretmanager.secretAccessor":
            yield f"{each.address} opens a secret to {each.values['member']} as {each.values['role']}"


def what_holds_data_is_protected(plan: Plan) -> Iterator[str]:
    """Buckets, Postgres and Redis refuse to be deleted."""
    for each in plan.of("storage_bucket", "sql_database"):
        if each.values["deletion_policy"] != "PREVENT" or each.values.get("force_destroy"):
            yield f"{each.address} can be deleted"
    for each in plan.of("redis_instance", "sql_database_instance"):
        if each.values["deletion_protection"] is not True:
            yield f"{each.address} can be deleted by Terraform"
    for each in plan.of("sql_database_instance"):
        if _settings(each.values)["deletion_protection_enabled"] is not True:
            yield f"{each.address} can be deleted in the console"


def what_is_promised_is_kept(plan: Plan) -> Iterator[str]:
    """Deleted objects, backups, Postgres's log, events and dead letters are kept for as long as the pages say."""
    for kind, suffix, attribute, promised in _KEPT:
        for each in plan.of(kind):
            found = _at(each.values, attribute)
            if each.address.endswith(suffix) and found != promised:
                yield f"{each.address} has {found!r} for {attribute}, and the pages promise {promised!r}"


def agents_have_their_roles(plan: Plan) -> Iterator[str]:
    """The service agents have the roles for the delivery of events: the most often forgotten roles."""
    push = plan.one("pubsub_subscription", ".push")
    objects, dead_letters = push["topic"], push["dead_letter_policy"][0]["dead_letter_topic"]
    account = push["push_config"][0]["oidc_token"][0]["service_account_email"]
    pubsub, storage = "@gcp-sa-pubsub.iam.gserviceaccount.com", "@gs-project-accounts.iam.gserviceaccount.com"
    wanted = (
        ("pubsub_topic_iam_member", "topic", objects, "roles/pubsub.publisher", storage),
        ("pubsub_topic_iam_member", "topic", dead_letters, "roles/pubsub.publisher", pubsub),
        ("pubsub_subscription_iam_member", "subscription", push["name"], "roles/pubsub.subscriber", pubsub),
        (
            "service_account_iam_member",
            "service_account_id",
            account,
            "roles/iam.serviceAccountOpenIdTokenCreator",
            pubsub,
        ),
    )
    for kind, attribute, target, role, agent in wanted:
        given = (each.values for each in plan.of(kind) if each.values["role"] == role)
        if not any(_last(each[attribute]) == _last(target) and each["member"].endswith(agent) for each in given):
            yield f"no agent …{agent} has {role} on {target}"


def dead_letters_are_kept(plan: Plan) -> Iterator[str]:
    """The dead-letter topic has a subscription, and no subscription expires."""
    topic = plan.one("pubsub_subscription", ".push")["dead_letter_policy"][0]["dead_letter_topic"]
    if not [each for each in plan.of("pubsub_subscription") if each.values["topic"] == topic]:
        yield f"{topic} keeps nothing: it has no subscription"
    for each in plan.of("pubsub_subscription"):
        if [policy["ttl"] for policy in each.values["expiration_policy"]] != [""]:
            yield f"{each.address} is deleted when nobody reads from it for a while"


def only_pubsub_and_cloud_tasks_invoke(plan: Plan) -> Iterator[str]:
    """Only the service accounts of the push subscription and of the calls of Cloud Tasks may call the function."""
    push = plan.one("pubsub_subscription", ".push")["push_config"][0]
    accounts = {push["oidc_token"][0]["service_account_email"]} if push["oidc_token"] else set()
    variables = {each["name"]: each["value"] for each in container_of(plan, "function")["env"]}
    if account := variables.get("DROPLINE_POOL__WAKE_SERVICE_ACCOUNT"):
        accounts.add(account)
    invokers = [
        (each.values["role"], each.values["member"])
        for each in plan.of("cloud_run_v2_service_iam_member")
        if not is_of_gallery(each)
    ]
    if sorted(invokers) != sorted(("roles/run.invoker", f"serviceAccount:{account}") for account in accounts):
        yield f"the function's members are {invokers}, and its callers are {accounts}"


def tokens_are_accepted_without_their_signature(plan: Plan) -> Iterator[str]:
    """Cloud Run verifies the token of every caller of the function, and the function looks for no signature."""
    variables = {each["name"]: each["value"] for each in container_of(plan, "function")["env"]}
    if variables.get("DROPLINE_PUSH__BEHIND_CLOUD_RUN") != "true":
        yield "the function verifies a signature that Cloud Run removes: it would refuse every event"


def events_are_new_and_gone_objects(plan: Plan) -> Iterator[str]:
    """Notifications report finalized, deleted and archived objects only: others would loop or have no effect."""
    for each in plan.of("storage_notification"):
        if set(each.values["event_types"] or ()) != _EVENTS or each.values["payload_format"] != "JSON_API_V1":
            yield f"{each.address} listens to {each.values['event_types']} as {each.values['payload_format']}"


def storage_rights_are_narrow(plan: Plan) -> Iterator[str]:
    """The worker may read, list and update objects, the gallery read, create and list, and nobody else."""
    for each in plan.of("project_iam_custom_role"):
        if set(each.values["permissions"]) not in _CUSTOM_ROLES:
            yield f"{each.address} allows {each.values['permissions']}"
    for each in plan.of("storage_bucket_iam_member"):
        member = re.match(r"serviceAccount:[a-z0-9-]+-(worker|gallery)@", each.values["member"])
        if member is None or not re.search(_STORAGE_ROLES[member[1]], each.values["role"]):
            yield f"{each.address} gives {each.values['role']} to {each.values['member']}"


def redis_keeps_the_queue(plan: Plan) -> Iterator[str]:
    """Redis has two zones, a password, encryption, and no eviction."""
    for each in plan.of("redis_instance"):
        found = {key: each.values[key] for key in ("tier", "auth_enabled", "transit_encryption_mode")}
        wanted = {"tier": "STANDARD_HA", "auth_enabled": True, "transit_encryption_mode": "SERVER_AUTHENTICATION"}
        if found != wanted or (each.values["redis_configs"] or {}).get("maxmemory-policy") != "noeviction":
            yield f"{each.address} is {found}, {each.values['redis_configs']}"


def postgres_is_backed_up_and_encrypted(plan: Plan) -> Iterator[str]:
    """Postgres has daily backups, recovery to any point in time, encrypted connections and logins through IAM."""
    for each in plan.of("sql_database_instance"):
        settings = _settings(each.values)
        backup = settings["backup_configuration"][0]
        if not backup["enabled"] or not backup["point_in_time_recovery_enabled"]:
            yield f"{each.address} is not backed up"
        if settings["ip_configuration"][0]["ssl_mode"] != "TRUSTED_CLIENT_CERTIFICATE_REQUIRED":
            yield f"{each.address} takes connections without encryption or certificate"
        if {"name": "cloudsql.iam_authentication", "value": "on"} not in settings["database_flags"]:
            yield f"{each.address} has no logins through IAM"


def pushes_are_signed_and_tried_again(plan: Plan) -> Iterator[str]:
    """Each push carries a token; failed pushes are tried again after a back-off and end as dead letters."""
    push = plan.one("pubsub_subscription", ".push")
    if not push["push_config"][0]["oidc_token"]:
        yield "the pushes carry no token"
    if not push["retry_policy"] or not push["dead_letter_policy"]:
        yield "the pushes are not tried again, or for ever"


def everything_is_labelled(plan: Plan) -> Iterator[str]:
    """Every resource of a type with labels has the label `app` with the value `dropline`."""
    for each in plan.resources:
        attributes = SCHEMA["resources"].get(each.type, {}).get("attributes", {})
        name = next((key for key in ("user_labels", "labels") if "o" in attributes.get(key, ["", ""])[1]), None)
        labels = _settings(each.values)["user_labels"] if each.type == "google_sql_database_instance" else None
        if name:
            labels = each.values[name]
        if (name or labels is not None) and (labels or {}).get("app") != "dropline":
            yield f"{each.address} is not labelled: {json.dumps(labels)}"


POLICIES: tuple[Policy, ...] = (
    no_public_access,
    no_open_doors,
    no_broad_roles,
    no_keys,
    secrets_come_from_secret_manager,
    arguments_hold_no_secrets,
    secrets_are_read_by_name,
    what_holds_data_is_protected,
    what_is_promised_is_kept,
    agents_have_their_roles,
    dead_letters_are_kept,
    only_pubsub_and_cloud_tasks_invoke,
    tokens_are_accepted_without_their_signature,
    events_are_new_and_gone_objects,
    storage_rights_are_narrow,
    redis_keeps_the_queue,
    postgres_is_backed_up_and_encrypted,
    pushes_are_signed_and_tried_again,
    everything_is_labelled,
    *RUN_POLICIES,
    *SLEEP_POLICIES,
    *FRESH_POLICIES,
)


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = values["settings"][0]
    return found


def _at(values: dict[str, Any], path: str) -> Any:
    """The value at `block.block.attribute`, where each block occurs at most once."""
    *blocks, attribute = path.split(".")
    for block in blocks:
        (values,) = values[block] or [{}]
    return values.get(attribute)


def _holds_a_secret(text: str) -> bool:
    return bool(_PASSWORD_IN_URL.search(text) or _SECRET_GIVEN.search(text))


def _last(path: str) -> str:
    return path.rpartition("/")[2]
