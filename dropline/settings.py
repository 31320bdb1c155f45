"""The only reader of the environment: a frozen object; a wrong value is refused at start.

Variables are `DROPLINE_GROUP__NAME`; the variables of Google's libraries (`STORAGE_EMULATOR_HOST`,
`PUBSUB_EMULATOR_HOST`, `GOOGLE_CLOUD_PROJECT`) keep their usual names. Lists and maps are JSON.
"""

import difflib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from dropline.contract import TaskPrompt
from dropline.errors import InvalidTask, SettingsError
from dropline.filter_defaults import AUXILIARY_OBJECTS, UNKNOWN_CONTENT_TYPES
from dropline.task_list import parse_tasks, written

PREFIX = "DROPLINE_"

#: The default checkpoint.
DEFAULT_CHECKPOINT = "florence-community/Florence-2-base-ft"
#: Its pinned commit.
DEFAULT_REVISION = "0b03b6f15a4a211370fb204aee4e7dd48887ea37"
#: Far above the usual lengths of the checkpoint's answers: 9 to 13, 30 to 45 and about 100 tokens.
_TOKENS_BY_TASK = {
    TaskPrompt.CAPTION: 64,
    TaskPrompt.DETAILED_CAPTION: 160,
    TaskPrompt.MORE_DETAILED_CAPTION: 512,
    TaskPrompt.REGION_TO_CATEGORY: 64,
    TaskPrompt.REGION_TO_DESCRIPTION: 64,
}


def _canonical_tasks(value: str) -> str:
    try:
        return written(parse_tasks(value))
    except InvalidTask as error:
        raise ValueError(str(error)) from None


#: One task, or several with commas between; see `dropline.task_list`.
TaskListText = Annotated[str, AfterValidator(_canonical_tasks)]


def _task_prompt(value: object) -> object:
    return TaskPrompt.named(value) or value if isinstance(value, str) else value


TaskName = Annotated[TaskPrompt, BeforeValidator(_task_prompt)]


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
    pooler: Literal["auto", "session", "transaction"] = Field(
        default="auto",
        description="Pooler between Dropline and Postgres. `auto`: a pooler is recognized, and taken to be in "
        "transaction mode, as PgBouncer mostly is; `session`: none, or one in session mode; `transaction`: one "
        "that is not recognized. See docs/operate.md.",
    )


class BrokerSettings(_Group):
    """Redis, as Celery's broker."""

    url: SecretStr = Field(default=SecretStr(""), description="Redis, as `redis://:password@host:port/0`.")
    visibility_timeout_s: int = Field(
        default=1800,
        ge=30,
        description="A look at the queue puts back messages that were taken longer ago than this and not "
        "acknowledged.",
    )
    polling_interval_s: int = Field(
        default=30, ge=1, le=300, description="Longest wait of one blocking BRPOP; then the worker arms the next."
    )
    publish_timeout_s: float = Field(default=1.0, gt=0, le=30, description="Longest wait of a sender for Redis.")
    send_events: bool = Field(
        default=False,
        description="Send Celery's task events, for Flower. An idle worker then sends commands all the time.",
    )


class EventSettings(_Group):
    """Selection of objects and tasks."""

    buckets: tuple[str, ...] = Field(
        default=(),
        description="Buckets of this deployment; events of other buckets are refused. Empty: all are refused.",
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
    auxiliary: tuple[str, ...] = Field(
        default=AUXILIARY_OBJECTS,
        description="Globs of objects that programs write beside images; a match is excluded. "
        "Apart from `EXCLUDE`, so that a list of your own keeps these.",
    )
    content_types: tuple[str, ...] = Field(
        default=("image/*", *UNKNOWN_CONTENT_TYPES),
        description="Globs of content types to download: images, and types that say nothing about the bytes. The "
        "bytes decide later. Lower case, without parameters; empty glob: no type, or no `type/subtype`.",
    )
    max_size_bytes: int = Field(default=50_000_000, ge=1, description="Larger objects become a `failed` row.")
    default_task: TaskListText = Field(
        default="<CAPTION>",
        description="Task prompt of an object without another choice; or several, with commas between.",
    )
    task_by_prefix: dict[str, TaskListText] = Field(
        default_factory=dict,
        description="Task prompt by object name prefix, or several; the longest prefix wins.",
    )


class SubmitSettings(_Group):
    """Images that a person hands to Dropline: by `dropline caption`, the API or the page."""

    prefix: str = Field(
        default="submitted/",
        max_length=200,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="Put before the object names of uploads.",
    )


class FetchSettings(_Group):
    """Images behind http and https addresses, which `dropline caption` and the API fetch."""

    allow_private: bool = Field(
        default=False,
        description="Fetch from loopback, private and shared addresses too, and from every port. Metadata and "
        "link-local addresses stay refused.",
    )
    max_size_bytes: int = Field(default=50_000_000, ge=1, description="Larger images are not fetched.")
    timeout_s: float = Field(
        default=30.0, gt=0, le=600, description="Seconds to fetch an image, from the name to the last byte."
    )
    max_redirects: int = Field(default=5, ge=0, le=20, description="Most redirects of an address.")


class PushSettings(_Group):
    """Checks of the token (OpenID Connect) of the function's callers: Pub/Sub and Cloud Tasks."""

    audience: str = Field(default="", description="Expected audience; empty: tokens are not checked.")
    service_account: str = Field(
        default="", description="E-mail of the push subscription's service account, which may make every call."
    )
    wake_service_account: str = Field(
        default="",
        description="E-mail of the service account that may wake and check the worker pool (`/wake`), and nothing "
        "else. Empty: there is none.",
    )
    behind_cloud_run: bool = Field(
        default=False,
        description="Cloud Run demands a token of every caller (IAM), verifies it and removes its signature: the "
        "claims alone are checked. Where Cloud Run does not, true lets everybody in.",
    )
    certs_url: str = Field(
        default="https://www.googleapis.com/oauth2/v3/certs", description="Address of the signing keys (JWKS)."
    )
    issuers: tuple[str, ...] = Field(
        default=("https://accounts.google.com", "accounts.google.com"),
        description="Accepted issuers of a token.",
    )


class WorkerSettings(_Group):
    """The Celery worker."""

    concurrency: int = Field(
        default=0,
        ge=0,
        le=512,
        description="Number of children: images at work at once. 0: on a GPU enough for full batches, on a CPU 4, "
        "and no more than the memory holds; see docs/tuning.md.",
    )
    soft_time_limit_s: int = Field(
        default=120, ge=1, description="Soft time limit of a task: an exception ends the attempt."
    )
    time_limit_s: int = Field(default=150, ge=2, description="Hard time limit of a task: its child is killed.")
    copy_identical: bool = Field(
        default=True,
        description="An object whose bytes have a caption of the same task, model and revision already takes it, "
        "without the model.",
    )
    max_lost_attempts: int = Field(
        default=3,
        ge=1,
        description="Attempts that end with the death of a process before the row becomes `failed`.",
    )
    max_slow_attempts: int = Field(
        default=10,
        ge=1,
        description="Attempts that end at the soft time limit before the row becomes `failed`. The pauses between "
        "them grow, so that ten attempts take about an hour.",
    )
    retry_for_s: float = Field(
        default=7 * 24 * 3600,
        ge=0,
        description="Seconds of transient errors, such as an unreachable Cloud Storage, before the row becomes "
        "`failed`; by default a week.",
    )
    retry_base_s: float = Field(default=1.0, gt=0, description="First bound of the jittered back-off.")
    retry_cap_s: float = Field(default=300.0, gt=0, description="Largest bound of the jittered back-off.")
    memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory that the worker may use, all its processes together; 0: the limit of the container, "
        "else the memory of the machine. A worker whose parts do not fit does not start; see docs/operate.md.",
    )
    hourly_price: float = Field(
        default=0.0,
        ge=0,
        description="Price of one worker for an hour, in your currency, for the estimates of `dropline backfill "
        "--dry-run`; 0: unknown.",
    )
    health_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the worker for HTTP probes (`GET /healthz`); 0: none.",
    )
    look_for_rows: bool = Field(
        default=True,
        description="Look in Postgres for due rows at a start, a reconnection and an alarm; off only for the "
        "control of the chaos test.",
    )


class ImageSettings(_Group):
    """Limits on untrusted images."""

    max_pixels: int = Field(
        default=100_000_000,
        ge=1,
        description="Most pixels (width times height), read from the header before decoding.",
    )
    max_side: int = Field(default=30_000, ge=1, description="Largest width or height, in pixels.")
    child_memory_bytes: int = Field(
        default=1_500_000_000,
        ge=0,
        le=2**50,
        description="Memory that a decoder process may allocate for an image; 0: no limit. Where not all children "
        "of a worker can have this much, an image above their share waits for its turn.",
    )
    decode_timeout_s: float = Field(
        default=10.0,
        gt=0,
        le=86_400,
        description="Seconds to decode an image; then the image fails. Less than the soft time limit of a task.",
    )
    images_per_decoder: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Images that a process for images decodes before a fresh one takes its place. 1: no image "
        "shares a process with another, for 15 ms of CPU time per image.",
    )


class EngineSettings(_Group):
    """The GPU process."""

    checkpoint: str = Field(
        default=DEFAULT_CHECKPOINT, description="Florence-2 checkpoint: a hub name, a directory, or `demo`."
    )
    revision: str = Field(default="", description="Commit of a hub checkpoint; empty: the default's pinned one.")
    device: str = Field(
        default="auto",
        description="`cpu`, `cuda:N`, or several of them separated by commas: the worker has an engine on each. "
        "`cuda`: every visible GPU. `auto`: every visible GPU, or the CPU where there is none.",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="auto: bfloat16 on a device with hardware support, else float32."
    )
    max_batch: int = Field(default=32, ge=1, le=1024, description="Most images in one batch.")
    max_wait_ms: float = Field(
        default=4.0, ge=0, le=1000, description="Longest wait of a batch for announced requests."
    )
    num_beams: int = Field(default=1, ge=1, le=10, description="Beams of the search; 1 is greedy.")
    # An answer begins with a token that is no word.
    max_new_tokens: int = Field(default=1024, ge=2, le=4096, description="Longest answer, in tokens.")
    max_new_tokens_by_task: dict[TaskName, Annotated[int, Field(ge=2)]] = Field(
        default=dict(_TOKENS_BY_TASK),
        description="Longest answer of a task, in tokens, where less than `max_new_tokens`; a longer one holds "
        "its place in the engine. With beams it holds up its batch.",
    )
    threads: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Torch threads of all engines on the CPU together, of which each has its part; 0: torch's "
        "default for one engine, and the cores of the worker for several.",
    )
    start_timeout_s: int = Field(default=600, ge=1, description="Longest time to load the model.")
    request_timeout_s: float = Field(default=100.0, gt=0, description="Longest wait of a child for an answer.")
    memory_bytes: int = Field(
        default=0,
        ge=0,
        description="Memory of the engine's process outside of the GPU, in the sum at the start of a worker; "
        "0: by the table in docs/operate.md.",
    )
    stub: bool = Field(default=False, description="Answer without a model; for benchmarks of the event path only.")
    stub_image_ms: float = Field(
        default=0,
        ge=0,
        le=60_000,
        description="With `stub`: time of each image, without CPU; DROPLINE_ENGINE__MAX_BATCH at a time.",
    )

    @property
    def devices(self) -> tuple[str, ...]:
        """The device of each engine, in order."""
        return tuple(device.strip() for device in self.device.split(","))


class MetadataSettings(_Group):
    """The write-back to the object's metadata."""

    write: bool = Field(default=True, description="Write the caption to the object's metadata.")
    max_value_bytes: int = Field(
        default=4096, ge=64, le=4096, description="Longest value of one key, in bytes of UTF-8."
    )
    max_total_bytes: int = Field(
        default=8192, ge=256, le=8192, description="Most bytes of all custom metadata of an object."
    )


class RetentionSettings(_Group):
    """Captions of images that are gone. Function and worker need the same values."""

    ended_days: float = Field(
        default=30.0,
        ge=0,
        le=36_500,
        description="Days until a row that is `superseded` or `deleted` is deleted, with its caption. "
        "0: such rows stay for ever.",
    )
    erase_on_delete: bool = Field(
        default=False,
        description="Erase the captions and results of an object version as soon as it is deleted, instead of "
        "with the rows.",
    )


class PoolSettings(_Group):
    """The worker pool in Cloud Run, for scale to zero. Function and worker need the same values."""

    name: str = Field(
        default="",
        pattern=r"^(projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+)?$",
        description="Worker pool to scale to zero, as `projects/P/locations/L/workerPools/W`; empty: none.",
    )
    instances: int = Field(default=1, ge=1, le=1000, description="Instances of the worker pool while it is awake.")
    idle_s: float = Field(
        default=300.0, gt=0, description="A worker that is idle for this long scales the worker pool to zero."
    )
    lease_s: float = Field(
        default=60.0,
        ge=30,
        description="Longest time that events wait during a call that scales the worker pool to zero.",
    )
    awake_s: float = Field(
        default=600.0,
        gt=0,
        description="The mark of an awake worker pool expires after this; the next event then wakes the pool.",
    )
    check_s: float = Field(
        default=300.0,
        gt=0,
        le=3600,
        description="With `DROPLINE_POOL__WAKE_QUEUE`: so long after the worker pool was woken, the function "
        "checks that a worker is ready; while none is, again after pauses that double, up to an hour.",
    )
    failed_starts: int = Field(
        default=3,
        ge=1,
        description="So many starts of workers that fail in a row set the worker pool to 0 instances, until the "
        "image or the settings change, or `dropline redrive` is run.",
    )
    api: str = Field(
        default="",
        description="Address of a replacement for Cloud Run's API, for tests; empty: `https://run.googleapis.com`.",
    )
    wake_queue: str = Field(
        default="",
        pattern=r"^(projects/[^/\s]+/locations/[^/\s]+/queues/[^/\s]+)?$",
        description="Queue of Cloud Tasks, as `projects/P/locations/L/queues/Q`: the worker pool sleeps while all "
        "rows wait for a later attempt, and a task wakes it. Empty: such rows keep the worker pool awake.",
    )
    wake_url: str = Field(
        default="",
        pattern=r"^(https?://\S+)?$",
        description="Address that the task calls: the function's, with the path `/wake`.",
    )
    wake_service_account: str = Field(
        default="", description="E-mail of the service account whose token the task has; empty: no token."
    )
    wake_audience: str = Field(
        default="", description="Audience of that token; empty: the address that the task calls."
    )
    wake_api: str = Field(
        default="",
        description="Address of a replacement for Cloud Tasks' API, for tests; "
        "empty: `https://cloudtasks.googleapis.com`.",
    )


class GallerySettings(_Group):
    """The gallery: page, JSON API and events. docs/gallery.md describes who may use it."""

    host: str = Field(
        default="127.0.0.1",
        min_length=1,
        description="Address to listen on. Another than a loopback address needs tokens or an Identity-Aware "
        "Proxy.",
    )
    port: int = Field(default=18406, ge=0, le=65535, description="Port to listen on; 0: a free port.")
    database_url: SecretStr = Field(
        default=SecretStr(""),
        description="Postgres for submissions and edits, as the role `dropline_gallery`. "
        "Empty: `DROPLINE_DATABASE__URL`. Reads use `DATABASE_URL`.",
    )
    tokens: tuple[str, ...] = Field(
        default=(),
        description="Tokens, each as `NAME:SCOPES:SHA256`; `dropline gallery token` makes them. "
        "Where one is set, every request needs a token, on a loopback address too.",
    )
    tokens_file: str = Field(default="", description="File with further tokens, one a line, read at the start.")
    iap_audience: str = Field(
        default="",
        description="Audience of the signed header of an Identity-Aware Proxy before the gallery; empty: none.",
    )
    iap_scopes: tuple[Literal["read", "submit", "edit"], ...] = Field(
        default=("read", "submit", "edit"), description="Scopes of everyone whom the Identity-Aware Proxy admits."
    )
    iap_keys_url: str = Field(
        default="https://www.gstatic.com/iap/verify/public_key-jwk",
        description="Address of the public keys (JWKS) of the Identity-Aware Proxy.",
    )
    requests_per_minute: int = Field(
        default=6000, ge=1, description="Most requests of one token or address in a minute; more are answered 429."
    )
    submissions_per_minute: int = Field(
        default=600,
        ge=1,
        description="Most submissions of one token or address in a minute; more are answered 429.",
    )
    max_streams: int = Field(default=500, ge=1, description="Most connections to `/api/events` at a time.")
    max_waits: int = Field(default=500, ge=1, description="Most requests with `wait` that wait at a time.")
    threads: int = Field(
        default=8,
        ge=1,
        le=200,
        description="Threads for statements and uploads, and connections per database role.",
    )
    cache_directory: str = Field(
        default="", description="Directory of thumbnails; empty: a temporary one, deleted when the gallery stops."
    )
    cache_bytes: int = Field(default=1_000_000_000, ge=0, description="Most bytes of thumbnails on disk.")


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
    gallery_url: str = Field(
        default="", description="Address of the gallery, as `http://127.0.0.1:18406`, for the client and commands."
    )
    database: DatabaseSettings = DatabaseSettings()
    broker: BrokerSettings = BrokerSettings()
    events: EventSettings = EventSettings()
    submit: SubmitSettings = SubmitSettings()
    fetch: FetchSettings = FetchSettings()
    push: PushSettings = PushSettings()
    worker: WorkerSettings = WorkerSettings()
    images: ImageSettings = ImageSettings()
    engine: EngineSettings = EngineSettings()
    metadata: MetadataSettings = MetadataSettings()
    retention: RetentionSettings = RetentionSettings()
    pool: PoolSettings = PoolSettings()
    gallery: GallerySettings = GallerySettings()
    log: LogSettings = LogSettings()

    @property
    def lease_s(self) -> int:
        """Seconds of a lease: longer than the hard time limit, shorter than the visibility timeout."""
        return self.worker.time_limit_s + 30


def load_settings() -> Settings:
    """Read the environment; composition roots call this function once.

    Raises:
        SettingsError: a variable has a wrong value, or an unknown name that begins with `DROPLINE_`.
    """
    _refuse_unknown(os.environ)
    _refuse_invalid_json(os.environ)
    try:
        settings = Settings()
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    if settings.worker.soft_time_limit_s >= settings.worker.time_limit_s:
        raise SettingsError(
            f"DROPLINE_WORKER__SOFT_TIME_LIMIT_S is {settings.worker.soft_time_limit_s}, but must be smaller than "
            f"DROPLINE_WORKER__TIME_LIMIT_S ({settings.worker.time_limit_s}),"
            " or a task is killed before the soft limit can end it"
        )
    if settings.images.decode_timeout_s >= settings.worker.soft_time_limit_s:
        raise SettingsError(
            f"DROPLINE_IMAGES__DECODE_TIMEOUT_S is {settings.images.decode_timeout_s:g}, but must be smaller than "
            f"DROPLINE_WORKER__SOFT_TIME_LIMIT_S ({settings.worker.soft_time_limit_s}),"
            " or a slow image is taken for a slow model"
        )
    if settings.lease_s >= settings.broker.visibility_timeout_s:
        raise SettingsError(
            f"DROPLINE_BROKER__VISIBILITY_TIMEOUT_S is {settings.broker.visibility_timeout_s}, but must be "
            f"larger than DROPLINE_WORKER__TIME_LIMIT_S + 30 = {settings.lease_s}, "
            "or a look at the queue puts back the message of a running task"
        )
    return settings


def require(value: SecretStr | str, variable: str) -> str:
    """The value, or an error that names the variable.

    Raises:
        SettingsError: the value is empty.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not text:
        raise SettingsError(f"{variable} is not set; see docs/settings.md for its value")
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


def _refuse_invalid_json(environment: Mapping[str, str]) -> None:
    """pydantic-settings raises an error of its own type and names only the group."""
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
