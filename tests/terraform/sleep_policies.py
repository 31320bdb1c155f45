"""Policies for scale to zero, and for the redrive job, which also scales up."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from operations.cloud_check.needs import TASKS_REGIONS
from tests.terraform.parts import PARTS, container_of, instance_of, is_of_gallery, part
from tests.terraform.workspace import Plan, Policy, Resource
from trigger_fn.endpoint import WAKE_PATH

#: The parts that wake the worker pool or put the pool to sleep.
_SCALERS = ("function", "redrive", "worker")
_ENOUGH_ATTEMPTS = 10


def whoever_scales_names_the_pool(plan: Plan) -> Iterator[str]:
    """Function, worker and redrive job have the same scaling settings, with the planned worker pool."""
    told = {name: _pool_settings(plan, name) for name in _SCALERS}
    if any(settings != told["worker"] for settings in told.values()):
        yield f"not all are told the same: {told}"
    pool = plan.one("cloud_run_v2_worker_pool")
    path = f"projects/{pool['project']}/locations/{pool['location']}/workerPools/{pool['name']}"
    for name, settings in told.items():
        if settings and settings["DROPLINE_POOL__NAME"] != path:
            yield f"{name} is told of another pool than {path}: {settings}"


def a_pool_that_sleeps_begins_asleep(plan: Plan) -> Iterator[str]:
    """A pool that scales to zero starts without instances and so without cost; any other pool starts with some."""
    (scaling,) = plan.one("cloud_run_v2_worker_pool")["scaling"]
    if _sleeps(plan) != (scaling["manual_instance_count"] == 0):
        yield f"the pool begins with {scaling}"


def tasks_reach_the_function(plan: Plan) -> Iterator[str]:
    """With scale to zero, the planned queue calls the planned function until it answers."""
    queues = plan.of("cloud_tasks_queue")
    if not _sleeps(plan):
        if queues:
            yield "a queue of Cloud Tasks without scale to zero"
        return
    (queue,) = (each.values for each in queues)
    settings = _pool_settings(plan, "function")
    function = plan.one(*PARTS["function"])
    path = f"projects/{queue['project']}/locations/{queue['location']}/queues/{queue['name']}"
    if settings["DROPLINE_POOL__WAKE_QUEUE"] != path:
        yield f"the tasks go to {settings['DROPLINE_POOL__WAKE_QUEUE']}, not to {path}"
    address = urlsplit(settings["DROPLINE_POOL__WAKE_URL"])
    if not (address.hostname or "").startswith(f"{function['name']}-") or address.path != WAKE_PATH:
        yield f"the tasks call {settings['DROPLINE_POOL__WAKE_URL']}"
    if queue["retry_config"][0]["max_attempts"] != -1:
        yield "a task is given up"


def the_queue_is_where_cloud_tasks_exists(plan: Plan) -> Iterator[str]:
    """The queue is in a region with Cloud Tasks, and each right on it names that region."""
    regions = {each.values["location"] for each in plan.of("cloud_tasks_queue")}
    for region in regions - set(TASKS_REGIONS):
        yield f"Cloud Tasks does not exist in {region}"
    for each in plan.of("cloud_tasks_queue_iam_member"):
        if each.values["location"] not in regions:
            yield f"{each.address} is a right on a queue in {each.values['location']}, not in {regions}"


def tasks_are_accepted_and_bring_no_events(plan: Plan) -> Iterator[str]:
    """With scale to zero, the function takes the token of the tasks, and takes no events with it."""
    if not _sleeps(plan):
        return
    settings = _pool_settings(plan, "function")
    environment = {each["name"]: each["value"] for each in container_of(plan, "function")["env"]}
    if settings["DROPLINE_POOL__WAKE_AUDIENCE"] != environment["DROPLINE_PUSH__AUDIENCE"]:
        yield "the function does not take the audience of the tasks"
    if settings["DROPLINE_POOL__WAKE_SERVICE_ACCOUNT"] != environment["DROPLINE_PUSH__WAKE_SERVICE_ACCOUNT"]:
        yield "the function does not take the account of the tasks"
    if settings["DROPLINE_POOL__WAKE_SERVICE_ACCOUNT"] == environment["DROPLINE_PUSH__SERVICE_ACCOUNT"]:
        yield "whoever makes a task can deliver events"


def events_outlive_a_falling_asleep(plan: Plan) -> Iterator[str]:
    """With scale to zero, an event is tried at least ten times."""
    attempts = plan.one("pubsub_subscription", ".push")["dead_letter_policy"][0]["max_delivery_attempts"]
    if _sleeps(plan) and attempts < _ENOUGH_ATTEMPTS:
        yield f"an event that comes while the pool falls asleep is a dead letter after {attempts} attempts"


def scalers_change_one_pool_only(plan: Plan) -> Iterator[str]:
    """With scale to zero only, function and worker may change the planned pool, as the pool's account.

    Only they and the gallery may put calls into the queue of Cloud Tasks, as the account that wakes and checks.
    """
    pool = plan.one("cloud_run_v2_worker_pool")["name"]
    queue = "".join(each.values["name"] for each in plan.of("cloud_tasks_queue"))
    account = part(plan, "worker")["service_account"]
    caller = account.replace("-worker@", "-wake@")
    wanted = {
        grant
        for member, scales in (
            *((f"serviceAccount:{part(plan, name)['service_account']}", True) for name in ("function", "worker")),
            *((member, False) for member in _waking_galleries(plan)),
        )
        for grant in (
            *((pool, "scaler", member) for _ in range(scales)),
            *((account, "iam.serviceAccountUser", member) for _ in range(scales)),
            (caller, "iam.serviceAccountUser", member),
            (queue, "cloudtasks.enqueuer", member),
        )
        if _sleeps(plan)
    }
    given = {grant for each in plan.resources for grant in _grants(each)}
    if given != wanted:
        yield f"who may change pools: {given - wanted} too much, {wanted - given} missing"


def _waking_galleries(plan: Plan) -> Iterator[str]:
    """The member of a gallery that submits or edits."""
    for each in plan.of("cloud_run_v2_service"):
        instance = instance_of(each.values)
        if is_of_gallery(each) and any(
            variable["name"] == "DROPLINE_POOL__WAKE_QUEUE" for variable in instance["containers"][0]["env"]
        ):
            yield f"serviceAccount:{instance['service_account']}"


def _grants(each: Resource) -> Iterator[tuple[str, str, str]]:
    """Target, role and member of each right to change parts of Cloud Run or to act as a service account."""
    role = str(each.values.get("role", "")).rpartition("/")[2]
    kind = "scaler" if "_scaler" in role else role
    of_run = role.startswith("run.") and role != "run.invoker"
    if (
        kind in ("scaler", "iam.serviceAccountUser", "cloudtasks.enqueuer")
        or of_run
        or each.type.endswith("worker_pool_iam_member")
    ):
        target = each.values.get("service_account_id") or each.values.get("name") or each.values["project"]
        yield target.rpartition("/")[2], kind, each.values["member"]


def redriving_is_the_function(plan: Plan) -> Iterator[str]:
    """The redrive job has the function's account, files, network access, image and environment."""
    function, job = (_likeness(plan, name) for name in ("function", "redrive"))
    if different := [key for key in function if function[key] != job[key]]:
        yield f"the job that redrives differs from the function in {', '.join(different)}"


def _likeness(plan: Plan, name: str) -> dict[str, Any]:
    instance, container = part(plan, name), container_of(plan, name)
    return {
        **{key: instance[key] for key in ("service_account", "volumes", "vpc_access")},
        **{key: container[key] for key in ("image", "env", "volume_mounts")},
    }


def _sleeps(plan: Plan) -> bool:
    return bool(_pool_settings(plan, "worker"))


def _pool_settings(plan: Plan, name: str) -> dict[str, str]:
    variables = container_of(plan, name)["env"]
    return {each["name"]: each["value"] for each in variables if each["name"].startswith("DROPLINE_POOL__")}


SLEEP_POLICIES: tuple[Policy, ...] = (
    whoever_scales_names_the_pool,
    a_pool_that_sleeps_begins_asleep,
    tasks_reach_the_function,
    the_queue_is_where_cloud_tasks_exists,
    tasks_are_accepted_and_bring_no_events,
    events_outlive_a_falling_asleep,
    scalers_change_one_pool_only,
    redriving_is_the_function,
)
