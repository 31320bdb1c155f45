"""Policies for the parts of Cloud Run: service accounts, network, images, CPU and memory."""

import re
from collections.abc import Iterator

from dropline.deadline import START_WAIT_S
from tests.terraform.parts import CLOUD_RUN, containers, instance_of, is_of_gallery
from tests.terraform.workspace import Plan, Policy
from trigger_fn.endpoint import START_PROBE_S

#: Cloud Run's limit for the probe of a start without a GPU, in seconds.
_LONGEST_START_S = 240
_HEALTH_PORT = "DROPLINE_WORKER__HEALTH_PORT"


def processes_run_as_themselves(plan: Plan) -> Iterator[str]:
    """Each part runs as a different service account of Dropline; only the redrive job shares the function's."""
    ours = {account.values["email"] for account in plan.of("service_account")}
    users = []
    for each in plan.of(*CLOUD_RUN):
        account = instance_of(each.values)["service_account"]
        if account not in ours:
            yield f"{each.address} runs as {account}"
        if not each.address.endswith(".redrive"):
            users.append(account)
    if len(set(users)) != len(users):
        yield f"several parts run as one account: {users}"


def everybody_reaches_google(plan: Plan) -> Iterator[str]:
    """Only private addresses are reached through Dropline's network, and the network leads to Google's APIs."""
    for each in plan.of(*CLOUD_RUN):
        access = instance_of(each.values)["vpc_access"]
        if [way["egress"] for way in access] != ["PRIVATE_RANGES_ONLY"]:
            yield f"{each.address} goes out by {access}"
    for each in plan.of("compute_subnetwork"):
        if each.values["private_ip_google_access"] is not True:
            yield f"{each.address} does not lead to Google's APIs"


def images_are_pinned(plan: Plan) -> Iterator[str]:
    """Every image is named by its digest, because a tag can move to another image."""
    for address, container in containers(plan):
        if not re.search(r"@sha256:[0-9a-f]{64}$", container["image"]):
            yield f"{address} runs {container['image']}"


def a_job_ends_with_its_container(plan: Plan) -> Iterator[str]:
    """A job has one container: a sidecar may run on when the main container has died, and the job with it."""
    for each in plan.of("cloud_run_v2_job"):
        names = [container["name"] for container in instance_of(each.values)["containers"]]
        if len(names) != 1:
            yield f"{each.address} may hang: it has the containers {', '.join(names)}"


def a_gpu_gets_what_it_needs(plan: Plan) -> Iterator[str]:
    """A pool with a GPU has the GPU's limit, at least 4 CPUs and 16 GiB, and a single zone, which has quota."""
    for each in plan.of("cloud_run_v2_worker_pool"):
        template = instance_of(each.values)
        limits = template["containers"][0]["resources"][0]["limits"]
        gpu = bool(template["node_selector"])
        if gpu != ("nvidia.com/gpu" in limits) or gpu != bool(template["gpu_zonal_redundancy_disabled"]):
            yield f"{each.address} has a GPU by half: {limits}"
        if gpu and (int(limits["cpu"]) < 4 or int(limits["memory"].removesuffix("Gi")) < 16):
            yield f"{each.address} has too little for a GPU: {limits}"


def an_instance_fits_into_cloud_run(plan: Plan) -> Iterator[str]:
    """The containers of an instance together have at most 8 CPUs and at least 512 MiB."""
    for each in plan.of(*CLOUD_RUN):
        limits = [container["resources"][0]["limits"] for container in instance_of(each.values)["containers"]]
        if sum(int(limit["cpu"]) for limit in limits) > 8 or sum(_mebibytes(limit) for limit in limits) < 512:
            yield f"{each.address} is refused by Cloud Run: {limits}"


def the_function_takes_many_at_once(plan: Plan) -> Iterator[str]:
    """An instance of the function takes 80 requests at once."""
    for each in plan.of("cloud_run_v2_service"):
        if is_of_gallery(each):
            continue
        if instance_of(each.values)["max_instance_request_concurrency"] != 80:
            yield f"{each.address} does not take 80 requests at once"


def an_idle_function_costs_nothing(plan: Plan) -> Iterator[str]:
    """No container of the function has a CPU between requests, and the proxy renews certificates on demand."""
    for each in plan.of("cloud_run_v2_service"):
        for container in instance_of(each.values)["containers"]:
            if [limits["cpu_idle"] for limits in container["resources"]] != [True]:
                yield f"{each.address}: {container['name']} is paid for between requests"
            if container["name"] == "cloud-sql-proxy" and "--lazy-refresh" not in container["args"]:
                yield f"{each.address}: the proxy wants to renew its certificate between requests"


def whatever_runs_on_is_probed(plan: Plan) -> Iterator[str]:
    """Services and worker pools have probes of start and life, which a slow answer does not fail at once."""
    for each in plan.of("cloud_run_v2_service", "cloud_run_v2_worker_pool"):
        container = instance_of(each.values)["containers"][0]
        starts, lives = container["startup_probe"], container["liveness_probe"]
        if not starts or not lives:
            yield f"{each.address} has no probe"
            continue
        if starts[0]["period_seconds"] * starts[0]["failure_threshold"] > _LONGEST_START_S:
            yield f"{each.address} has a longer start than Cloud Run allows"
        if lives[0]["failure_threshold"] < 3 or lives[0]["period_seconds"] < 60:
            yield f"{each.address} is ended by a single slow answer, or pays for many probes"
        ports = {probe[0]["http_get"][0]["port"] for probe in (starts, lives)}
        told = {variable["value"] for variable in container["env"] if variable["name"] == _HEALTH_PORT}
        if told and told != {str(port) for port in ports}:
            yield f"{each.address} is asked at {ports}, and listens on {told}"


def a_service_starts_with_its_network(plan: Plan) -> Iterator[str]:
    """The start-up probe of a service waits for the network, for longer than the service makes it wait."""
    for each in plan.of("cloud_run_v2_service"):
        container = instance_of(each.values)["containers"][0]
        starts, lives = container["startup_probe"][0], container["liveness_probe"][0]
        paths = [probe["http_get"][0]["path"] for probe in (starts, lives)]
        if paths != ["/started", "/healthz"]:
            yield f"{each.address} has the probes {paths}"
        if starts["period_seconds"] * (starts["failure_threshold"] - 1) <= START_WAIT_S:
            yield f"{each.address} is ended before /started answers 200 without Postgres"
        # A second, where it is left out.
        if not START_PROBE_S < (starts["timeout_seconds"] or 1) < starts["period_seconds"]:
            yield f"{each.address} has a probe that ends before its answer, or after the next one begins"


def a_job_waits_for_its_network(plan: Plan) -> Iterator[str]:
    """A job's first process waits for the answers of Postgres and Redis, for as long as it does by default."""
    for each in plan.of("cloud_run_v2_job"):
        command = instance_of(each.values)["containers"][0]["command"]
        if command[:3] != ["python", "-m", "db.with_proxy"] or any("--answer-s" in part for part in command):
            yield f"{each.address} connects before its network is there: {command}"


RUN_POLICIES: tuple[Policy, ...] = (
    processes_run_as_themselves,
    everybody_reaches_google,
    images_are_pinned,
    a_job_ends_with_its_container,
    a_gpu_gets_what_it_needs,
    an_instance_fits_into_cloud_run,
    the_function_takes_many_at_once,
    an_idle_function_costs_nothing,
    whatever_runs_on_is_probed,
    a_service_starts_with_its_network,
    a_job_waits_for_its_network,
)


def _mebibytes(limits: dict[str, str]) -> int:
    memory = limits["memory"]
    return int(memory[:-2]) * {"Mi": 1, "Gi": 1024}[memory[-2:]]
