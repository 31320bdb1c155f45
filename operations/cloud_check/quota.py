"""The GPU quota, and the regions with GPUs."""

from collections.abc import Iterator
from typing import Any

from operations.cloud_check.api import Api, Refused
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.needs import GPU_QUOTA, GPU_REGIONS
from operations.cloud_check.project import unchecked

#: L4 GPUs that Google grants with a project's first deployment with L4s in a region (docs/terraform-checks.md).
_FIRST_GRANT = 3
_ON_CPUS = '-var=\'worker={accelerator="none",cpu="4",memory="8Gi",concurrency=4}\''


def check_gpus(api: Api, plan: Plan) -> Iterator[Finding]:
    """The region has L4 GPUs, and the project may use as many as the worker pool needs."""
    if not plan.gpus:
        yield Finding(Level.OK, "quota", f"no GPU is needed; `terraform apply` gets {_ON_CPUS}")
        return
    path = f"v1/projects/{plan.project}/locations/global/services/run.googleapis.com/quotaInfos/{GPU_QUOTA}"
    try:
        found = api.get("cloudquotas.googleapis.com", path)
    except Refused as refused:
        yield from _check_region(plan, ())
        yield unchecked(plan, "quota", refused, "roles/cloudquotas.viewer")
        return
    infos = [each for each in found.get("dimensionsInfos", []) if isinstance(each, dict)]
    yield from _check_region(plan, tuple(sorted({name for each in infos for name in _regions(each)})))
    yield _quota(plan, _granted(plan, infos))


def _regions(info: dict[str, Any]) -> Iterator[str]:
    yield from info.get("applicableLocations", [])
    if region := info.get("dimensions", {}).get("region"):
        yield region


def _check_region(plan: Plan, listed: tuple[str, ...]) -> Iterator[Finding]:
    """Google's list decides; without it, Dropline's own list can only warn."""
    if plan.region in (listed or GPU_REGIONS):
        yield Finding(Level.OK, "region", f"{plan.region} has L4 GPUs")
        return
    others = ", ".join(listed or GPU_REGIONS)
    level = Level.BLOCKED if listed else Level.WARNING
    source = "the quota has no L4 GPUs in" if listed else "Dropline's list of regions with L4 GPUs lacks"
    command = f"dropline cloud check --project {plan.project} --region {(listed or GPU_REGIONS)[-1]}"
    yield Finding(level, "region", f"{source} {plan.region}; regions with GPUs: {others}", (command,))


def _granted(plan: Plan, infos: list[dict[str, Any]]) -> int:
    """The quota of the region: that with the region as its dimension, else that for all regions."""
    exact = [each for each in infos if each.get("dimensions", {}).get("region") == plan.region]
    general = [
        each
        for each in infos
        if not each.get("dimensions", {}).get("region")
        and plan.region in (each.get("applicableLocations") or [plan.region])
    ]
    # A 64-bit number is a string in JSON, and a 0 is left out.
    values = [int(each.get("details", {}).get("value", 0)) for each in (exact or general)]
    # -1: without a limit.
    return max(values, key=lambda value: float("inf") if value < 0 else value, default=0)


def _quota(plan: Plan, granted: int) -> Finding:
    if granted < 0 or granted > plan.gpus:
        return Finding(
            Level.OK, "quota", f"{'any number of' if granted < 0 else granted} L4 GPUs in {plan.region}"
        )
    wanted = plan.gpus + 1
    command = (
        f"gcloud beta quotas preferences create --project={plan.project} --service=run.googleapis.com "
        f"--quota-id={GPU_QUOTA} --preferred-value={wanted} --dimensions=region={plan.region} "
        '--email="$(gcloud config get-value account)"'
    )
    if granted == plan.gpus:
        text = f"{granted} L4 GPUs in {plan.region}: enough, but an upgrade runs workers of both versions"
        return Finding(Level.WARNING, "quota", text, (command,))
    trial = f"a trial on CPUs needs none: --gpus 0, and {_ON_CPUS}"
    if not granted and plan.gpus <= _FIRST_GRANT:
        text = (
            f"0 L4 GPUs in {plan.region}: Google should grant {_FIRST_GRANT} with the first deployment; if "
            f"`terraform apply` fails for the quota, request it, which may take days; {trial}"
        )
        return Finding(Level.WARNING, "quota", text, (command,))
    text = (
        f"{granted} L4 GPUs in {plan.region}, and the worker pool needs {plan.gpus}; granting may take days; "
        f"{trial}"
    )
    return Finding(Level.BLOCKED, "quota", text, (command,))
