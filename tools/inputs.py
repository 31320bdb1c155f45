"""Numbers that come from somewhere else, each with its source: what is deployed, measured, assumed, documented.

They are read from `inputs.toml`. A test compares those of Terraform and of pages of ours with what the files say.
"""

import tomllib
from datetime import date
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dropline.errors import DroplineError

INPUTS = Path(__file__).with_name("inputs.toml")

Model = TypeVar("Model", bound=BaseModel)


class InputError(DroplineError):
    """A file of inputs cannot be used."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Quoted(_Frozen):
    """A number that a file of this repository states."""

    value: float = Field(ge=0)
    unit: str
    #: From the repository's root.
    file: str
    #: The text that states it, word for word but for the space between words.
    says: str


class Assumed(_Frozen):
    """A number that nobody measured."""

    value: float = Field(ge=0)
    unit: str
    why: str


class Documented(_Frozen):
    """A limit that Google documents."""

    value: float = Field(ge=0)
    unit: str
    what: str
    source: str
    #: When the source was read; it is a stored copy, which may be older.
    read: date


class Deployed(_Frozen):
    """Terraform's defaults."""

    worker_cpu: Quoted
    worker_memory: Quoted
    worker_proxy_cpu: Quoted
    worker_proxy_memory: Quoted
    worker_instances: Quoted
    worker_concurrency: Quoted
    function_cpu: Quoted
    function_memory: Quoted
    function_proxy_cpu: Quoted
    function_proxy_memory: Quoted
    function_instances_max: Quoted
    database_cpu: Quoted
    database_memory: Quoted
    database_disk: Quoted
    database_connections: Quoted
    redis_memory: Quoted
    events_retention: Quoted
    retry_minimum: Quoted
    retry_maximum: Quoted
    delivery_attempts: Quoted
    network_prefix: Quoted
    pool_size: Quoted
    pool_idle: Quoted


class Measured(_Frozen):
    """Costs of the parts, measured without a model."""

    function_cpu_ms: Quoted
    function_postgres_ms: Quoted
    function_redis_ms: Quoted
    worker_photograph_cpu_ms: Quoted
    worker_postgres_ms: Quoted
    worker_redis_ms: Quoted
    photograph_kb: Quoted
    row_bytes: Quoted
    queue_bytes: Quoted
    redis_commands: Quoted
    transactions: Quoted
    wal_bytes: Quoted
    function_log_bytes: Quoted
    worker_log_bytes: Quoted


class Assumptions(_Frozen):
    """What stands in for what is not known."""

    cold_start_s: Assumed
    billed_request_s: Assumed
    event_bytes: Assumed
    request_log_bytes: Assumed
    flow_log_bytes: Assumed
    registry_gb: Assumed
    backup_copies: Assumed
    alert_conditions: Assumed
    secret_versions: Assumed
    target_utilisation: Assumed
    cpu_only_rate: Assumed


class Limits(_Frozen):
    """Google's quotas and limits."""

    bucket_writes: Documented
    bucket_reads: Documented
    object_updates: Documented
    pubsub_publish: Documented
    pubsub_push: Documented
    run_cpu_quota: Documented
    run_gpu_quota: Documented
    run_addresses: Documented
    redis_clients: Documented
    redis_size: Documented
    sql_disk: Documented
    sql_cpu: Documented


class Inputs(_Frozen):
    """All of them."""

    deployed: Deployed
    measured: Measured
    assumed: Assumptions
    limits: Limits


def load_inputs(path: Path = INPUTS) -> Inputs:
    """Read the file of inputs.

    Raises:
        InputError: it is not there, is not TOML, or an entry is missing, unknown or wrong.
    """
    return read_model(Inputs, path)


def read_model(model: type[Model], path: Path) -> Model:
    """Read a TOML file as `model`.

    Raises:
        InputError: names the file, the entries that are wrong and what is wrong with them.
    """
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): give the path of a TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not TOML: {error}") from None
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise InputError(
            f"{path}: {_explained(error)}; begin from a copy of the default: "
            "tools/inputs.toml, or tools/cloud_costs/prices.toml for prices"
        ) from None


def _explained(error: ValidationError) -> str:
    items = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}" for item in items)
