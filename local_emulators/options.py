"""What can be chosen about a local stack, and the names it gives to things."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_emulators.ports import DEFAULT_BASE, Ports
from local_emulators.pubsub_process import PubsubKind

PROJECT = "dropline-local"
BUCKET = "dropline-drops"
TOPIC = "dropline-objects"
SUBSCRIPTION = "dropline-push"
DEAD_LETTER_TOPIC = "dropline-dead-letters"
DEAD_LETTER_SUBSCRIPTION = "dropline-dead-letters"

#: `--model` with this name takes the small model that is shipped with Dropline.
DEMO_MODEL = "demo"
#: `--model` with this name answers without a model: for work on everything around it.
STUB_MODEL = "stub"


@dataclass(frozen=True)
class StackOptions:
    """Choices for one stack; every default is that of `dropline up`."""

    #: State, logs and the `env` file; made where it does not exist. Used again, it holds the same rows and queue.
    directory: Path = Path(".local")
    #: See `Ports`; 0 takes free ones.
    port_base: int = DEFAULT_BASE
    #: `demo`, `stub`, or a Florence-2 checkpoint: a hub name or a directory.
    model: str = DEMO_MODEL
    #: Images the worker has in flight at once.
    concurrency: int = 4
    pubsub: PubsubKind = "own"
    #: A Postgres of the user's own: all parts use this URL, and its user must be allowed to create roles.
    database_url: str | None = None
    #: A Redis of the user's own.
    redis_url: str | None = None
    #: Further variables for the function and the worker.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: Exact ports, for tests that have to know them before the start; otherwise they follow from `port_base`.
    ports: Ports | None = None
