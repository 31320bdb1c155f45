"""The options of a local stack, and the names of project, bucket, topics and subscriptions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dropline.demo_model import DEMO_MODEL
from local_emulators.ports import DEFAULT_BASE, Ports
from local_emulators.pubsub_process import PubsubKind

PROJECT = "dropline-local"
BUCKET = "dropline-drops"
TOPIC = "dropline-objects"
SUBSCRIPTION = "dropline-push"
DEAD_LETTER_TOPIC = "dropline-dead-letters"
DEAD_LETTER_SUBSCRIPTION = "dropline-dead-letters"

#: Value of `--model` for an engine without a model, for work on the other parts.
STUB_MODEL = "stub"


@dataclass(frozen=True)
class StackOptions:
    """The options of one stack, with the defaults of `dropline up`."""

    #: State, logs and the `env` file; created if missing. A later start has the same rows and queue.
    directory: Path = Path(".local")
    #: See `Ports`; 0 means free ports.
    port_base: int = DEFAULT_BASE
    #: `demo`, `base`, `stub`, or a Florence-2 checkpoint: a hub name or a directory.
    model: str = DEMO_MODEL
    #: Images in flight at once in the worker.
    concurrency: int = 4
    pubsub: PubsubKind = "own"
    #: Flower on a port of its own, and Celery's events for Flower.
    flower: bool = False
    #: An external Postgres, used by all parts with the same user, who must have the right to create roles.
    database_url: str | None = None
    #: An external Redis.
    redis_url: str | None = None
    #: Additional environment variables for the function and the worker.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Exact ports instead of `port_base`, for tests with ports chosen before the start.
    ports: Ports | None = None
