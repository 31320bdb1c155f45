"""The only reader of the environment: one frozen object, refused at start when a value is wrong.

Variables are `DROPLINE_GROUP__NAME`; the ecosystem's own (`STORAGE_EMULATOR_HOST`, `PUBSUB_EMULATOR_HOST`,
`GOOGLE_CLOUD_PROJECT`) are honoured under their usual names. Lists and maps are JSON.
"""

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from dropline.contract import TaskRequest
from dropline.errors import InvalidTask, SettingsError

PREFIX = "DROPLINE_"

#: The checkpoint of a deployment that names none.
DEFAULT_CHECKPOINT = "florence-community/Florence-2-base-ft"
#: Its pinned commit.
DEFAULT_REVISION = "0b03b6f15a4a211370fb204aee4e7dd48887ea37"


def _canonical_task(value: str) -> str:
    try:
        return str(TaskRequest.parse(value))
    except InvalidTask as error:
        raise ValueError(str(error)) from None


TaskText = Annotated[str, AfterValidator(_canonical_task)]


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DatabaseSettings(_Group):
    """Postgres."""

    url: SecretStr = Field(
        default=SecretStr(""), description="Postgres, as `postgresql://user:password@host:port/name`."
    )
    pool_size: int = Field(default=8, ge=1, le=200, description="Connections kept per process.")
    connect_timeout_s: int = Field(default=2, ge=1, le=60, description="Seconds to wait for a connection.")
    statement_timeout_ms: int = Field(
        default=2000, ge=100, description="Postgres gives up on a statement after this."
    )


class BrokerSettings(_Group):
    """Redis, as Celery's broker."""

    url: SecretStr = Field(default=SecretStr(""), description="Redis, as `redis://:password@host:port/0`.")
    visibility_timeout_s: int = Field(
        default=1800,
        ge=30,
        description="A recovery hands out again what was taken longer ago than this.",
    )
    polling_interval_s: int = Field(
        default=30, ge=1, le=300, description="How long one blocking BRPOP waits before it is armed again."
    )
    publish_timeout_s: float = Field(
        default=1.0, gt=0, le=30, description="Longest wait of a producer on a dead Redis."
    )
    send_events: bool = Field(default=False, description="Celery's task events, for Flower; they end the quiet.")


class EventSettings(_Group):
    """Which objects are captioned, and how."""

    buckets: tuple[str, ...] = Field(
        default=(), description="Buckets that are ours; events of others are refused. Empty: none is."
    )
    include: tuple[str, ...] = Field(default=("**",), description="Globs; an object name must match one of them.")
    exclude: tuple[str, ...] = Field(
        default=(
            "**/gsutil/tmp/parallel_composite_uploads/**",
            "gsutil/tmp/parallel_composite_uploads/**",
            "/gsutil/tmp/parallel_composite_uploads/**",
            "gcloud/tmp/parallel_composite_uploads/**",
        ),
        description="Globs; an object name must match none of them. Parts of composite uploads by default.",
    )
    content_types: tuple[str, ...] = Field(
        default=("image/*", "application/octet-stream", ""),
        description="Globs of content types worth a look; bytes decide later. The empty one: none was given.",
    )
    max_size_bytes: int = Field(default=50_000_000, ge=1, description="Larger objects become a `failed` row.")
    default_task: TaskText = Field(default="<CAPTION>", description="Task prompt where nothing else names one.")
    task_by_prefix: dict[str, TaskText] = Field(
        default_factory=dict, description="Task prompt by object name prefix; the longest prefix wins."
    )


class PushSettings(_Group):
    """Who may call the function, checked on the push token (OpenID Connect)."""

    audience: str = Field(default="", description="Expected audience; empty switches the check of tokens off.")
    service_account: str = Field(default="", description="Expected e-mail of the pushing service account.")
    certs_url: str = Field(
        default="https://www.googleapis.com/oauth2/v3/certs", description="Where the signing keys (JWKS) are."
    )
    issuers: tuple[str, ...] = Field(
        default=("https://accounts.google.com", "accounts.google.com"),
        description="Accepted issuers of a token.",
    )


class WorkerSettings(_Group):
    """The Celery worker."""

    concurrency: int = Field(default=4, ge=1, le=512, description="Children: images in flight at once.")
    soft_time_limit_s: int = Field(default=120, ge=1, description="A task is asked to stop after this.")
    time_limit_s: int = Field(default=150, ge=2, description="Its child is killed after this.")
    max_lost_attempts: int = Field(
        default=3, ge=1, description="Deaths of a process before an image is set aside."
    )
    max_retries: int = Field(default=100, ge=0, description="Transient errors before an image is set aside.")
    retry_base_s: float = Field(default=1.0, gt=0, description="First bound of the jittered back-off.")
    retry_cap_s: float = Field(default=300.0, gt=0, description="Largest bound of the jittered back-off.")
    recovery_batch: int = Field(default=500, ge=1, description="Rows re-enqueued per statement at recovery.")
    recover_on_start: bool = Field(
        default=True, description="Re-enqueue what Redis lost; off only to show why it is on."
    )


class ImageSettings(_Group):
    """Limits on untrusted images."""

    max_pixels: int = Field(default=100_000_000, ge=1, description="Width times height, read before decoding.")
    max_side: int = Field(default=30_000, ge=1, description="Largest width or height, in pixels.")
    child_memory_bytes: int = Field(
        default=1_300_000_000,
        ge=0,
        description="Memory a child may allocate beyond what it holds, while it decodes; 0: no limit.",
    )


class EngineSettings(_Group):
    """The GPU process."""

    checkpoint: str = Field(
        default=DEFAULT_CHECKPOINT, description="Florence-2 checkpoint: a hub name, a directory, or `demo`."
    )
    revision: str = Field(default="", description="Commit of a hub checkpoint; empty: the default's pinned one.")
    device: str = Field(default="auto", description="`auto`, `cpu`, `cuda` or `cuda:N`.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 where the device has it, else float32."
    )
    max_batch: int = Field(default=32, ge=1, le=1024, description="Most images in one batch.")
    max_wait_ms: float = Field(
        default=4.0, ge=0, le=1000, description="Longest wait for requests known to be on their way."
    )
    num_beams: int = Field(default=3, ge=1, le=10, description="Beams of the search; 1 is greedy.")
    max_new_tokens: int = Field(default=1024, ge=1, le=4096, description="Longest answer, in tokens.")
    threads: int = Field(default=0, ge=0, le=256, description="Torch threads on a CPU; 0: torch decides.")
    start_timeout_s: int = Field(default=600, ge=1, description="Longest loading of the model.")
    request_timeout_s: float = Field(default=100.0, gt=0, description="A child's longest wait for an answer.")
    stub: bool = Field(default=False, description="Answer without a model: for benchmarks of the event path only.")


class MetadataSettings(_Group):
    """What is written back to the object."""

    write: bool = Field(default=True, description="Write the caption to the object's metadata.")
    max_value_bytes: int = Field(default=4096, ge=64, le=4096, description="Longest value of one key, UTF-8.")
    max_total_bytes: int = Field(default=8192, ge=256, le=8192, description="All custom metadata of an object.")


class PoolSettings(_Group):
    """The worker pool in Cloud Run, if it sleeps while nothing is to be done. The same for function and worker."""

    name: str = Field(
        default="",
        pattern=r"^(projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+)?$",
        description="Pool to put to sleep and to wake, as `projects/P/locations/L/workerPools/W`; empty: none.",
    )
    instances: int = Field(default=1, ge=1, le=1000, description="Instances of the pool when it is awake.")
    idle_s: float = Field(
        default=300.0, gt=0, description="A worker without work for this long puts the pool to sleep."
    )
    lease_s: float = Field(
        default=60.0, ge=30, description="For this long events wait while a call puts the pool to sleep."
    )
    awake_s: float = Field(
        default=600.0,
        gt=0,
        description="For this long an awake pool is believed in; then the next event wakes it anew.",
    )
    api: str = Field(
        default="", description="Address of a stand-in for Cloud Run; empty: `https://run.googleapis.com`."
    )


class LogSettings(_Group):
    """Logs on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe level shown."
    )
    format: Literal["json", "console"] = Field(default="json", description="For machines or for people.")


class Settings(BaseSettings):
    """All of Dropline's settings, immutable."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore", case_sensitive=False
    )

    project: str = Field(
        default="", validation_alias=AliasChoices("GOOGLE_CLOUD_PROJECT"), description="Google Cloud project."
    )
    storage_emulator_host: str = Field(
        default="",
        validation_alias=AliasChoices("STORAGE_EMULATOR_HOST"),
        description="Address of a local Cloud Storage.",
    )
    pubsub_emulator_host: str = Field(
        default="",
        validation_alias=AliasChoices("PUBSUB_EMULATOR_HOST"),
        description="Address of a local Pub/Sub.",
    )
    database_url: SecretStr = Field(
        default=SecretStr(""),
        validation_alias=AliasChoices("DATABASE_URL"),
        description="Postgres for commands that only read, as the reader's role. Empty: `DROPLINE_DATABASE__URL`.",
    )
    bucket: str = Field(default="", description="Bucket `dropline drop` uploads to.")
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    events: EventSettings = EventSettings()
    push: PushSettings = PushSettings()
    worker: WorkerSettings = WorkerSettings()
    images: ImageSettings = ImageSettings()
    engine: EngineSettings = EngineSettings()
    metadata: MetadataSettings = MetadataSettings()
    pool: PoolSettings = PoolSettings()
    log: LogSettings = LogSettings()

    @property
    def lease_s(self) -> int:
        """How long a claim holds: longer than a task can live, shorter than the visibility timeout."""
        return self.worker.time_limit_s + 30


def load_settings() -> Settings:
    """Read the environment once; for composition roots only.

    Raises:
        SettingsError: a variable has a wrong value, or its name is not one of ours.
    """
    _refuse_unknown(os.environ)
    _refuse_what_is_no_json(os.environ)
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    if settings.worker.soft_time_limit_s >= settings.worker.time_limit_s:
        raise SettingsError(
            f"DROPLINE_WORKER__SOFT_TIME_LIMIT_S is {settings.worker.soft_time_limit_s}, but must be smaller than "
            f"DROPLINE_WORKER__TIME_LIMIT_S ({settings.worker.time_limit_s}),"
            " or nothing is asked to stop before it is killed"
        )
    if settings.lease_s >= settings.broker.visibility_timeout_s:
        raise SettingsError(
            f"DROPLINE_BROKER__VISIBILITY_TIMEOUT_S is {settings.broker.visibility_timeout_s}, but must be "
            f"larger than DROPLINE_WORKER__TIME_LIMIT_S + 30 = {settings.lease_s}, "
            "or a recovery hands out the message of a task at work again"
        )
    return settings


def require(value: SecretStr | str, variable: str) -> str:
    """The value, or an error that names the variable.

    Raises:
        SettingsError: the value is empty.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not text:
        raise SettingsError(f"{variable} is not set; see docs/settings.md for what it should hold")
    return text


def variables() -> Iterator[tuple[str, Any, str]]:
    """Every variable as `(name, default, description)`, in the order of the documentation."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, _Group):
            for inner, inner_field in type(field.default).model_fields.items():
                default = inner_field.get_default(call_default_factory=True)
                yield f"{PREFIX}{name}__{inner}".upper(), default, inner_field.description or ""
        elif isinstance(field.validation_alias, AliasChoices):
            yield str(field.validation_alias.choices[0]), field.default, field.description or ""
        else:
            yield f"{PREFIX}{name}".upper(), field.default, field.description or ""


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = {name for name, _, _ in variables()}
    for name in environment:
        if name.upper().startswith(PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            hint = f"; did you mean {near[0]}?" if near else "; see docs/settings.md for all of them"
            raise SettingsError(f"{name} is not a setting of Dropline{hint}")


def _refuse_what_is_no_json(environment: Mapping[str, str]) -> None:
    """pydantic-settings names the group only, and raises an error of its own."""
    examples = {name: default for name, default, _ in variables() if isinstance(default, tuple | dict)}
    for name, value in environment.items():
        if name.upper() not in examples:
            continue
        try:
            json.loads(value)
        except ValueError:
            example = '["a", "b"]' if isinstance(examples[name.upper()], tuple) else '{"a/": "<OD>"}'
            raise SettingsError(f"{name} is {value[:80]!r}, but must be JSON, for example {example}") from None


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_url=False, include_input=False):
        path = [str(part) for part in item["loc"]]
        variable = path[0] if path[0].isupper() else PREFIX + "__".join(path[:2]).upper()
        parts.append(f"{variable}: {item['msg']}")
    return "wrong settings: " + "; ".join(parts)
