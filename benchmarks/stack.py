"""A local stack with a stub engine for one part of a benchmark, and its queued messages, CPU seconds and logs."""

import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import psycopg
import redis
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from benchmarks.checks import RunInvalidError
from benchmarks.cpu import ProcessSnapshot, children_that_run, resident_bytes
from benchmarks.publications import Publications
from db.listen import Listener, listening
from dropline.broker.messages import row_id_of
from dropline.contract import CAPTION_QUEUE
from dropline.settings import DatabaseSettings
from local_emulators.options import BUCKET, PROJECT, StackOptions
from local_emulators.stack import Stack
from local_emulators.supervisor import Service

#: Between two reads of the queue, before a measurement begins.
_PAUSE_S = 0.05


class Messages:
    """The messages of the caption queue."""

    def __init__(self, broker_url: str) -> None:
        self._redis = redis.Redis.from_url(broker_url, decode_responses=True)

    def rows(self) -> Counter[int]:
        """Row id → number of its messages."""
        return Counter(row_id_in(str(body)) for body in self._redis.lrange(CAPTION_QUEUE, 0, -1))

    def wait_for(self, count: int, timeout_s: float) -> None:
        """Wait until at least `count` messages are on the queue.

        Raises:
            RunInvalidError: too few messages after `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while (found := self._redis.llen(CAPTION_QUEUE)) < count:
            if time.monotonic() > deadline:
                raise RunInvalidError(f"{found} of {count} messages were on Redis after {timeout_s:g} s")
            time.sleep(_PAUSE_S)

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


def row_id_in(message: str) -> int:
    """The row id in a Celery message.

    Raises:
        RunInvalidError: the message has no row id.
    """
    row_id = row_id_of(message)
    if row_id is None:
        raise RunInvalidError(f"a message on Redis names no row: {message[:200]!r}")
    return row_id


#: A worker stops after its blocking BRPOP returns, with the default after up to half a minute.
_ENVIRONMENT = {"DROPLINE_BROKER__POLLING_INTERVAL_S": "1"}


class BenchmarkStack:
    """A running stack, and the readings that benchmarks take from it."""

    def __init__(self, stack: Stack, messages: Messages) -> None:
        self.messages = messages
        self._stack = stack
        self._environment = stack.environment
        #: Images in the worker at the same time.
        self.concurrency = stack.options.concurrency
        self.bucket = BUCKET
        self.function_url = stack.function_url
        self.gallery_url = stack.gallery_url
        #: Of the data of Postgres and Redis, and of the logs.
        self.directory = stack.options.directory

    @property
    def worker(self) -> Service:
        """The worker, for stopping and starting."""
        return self._stack.services["worker"]

    def cpu_seconds(self, *names: str) -> dict[str, float]:
        """Service → CPU seconds of all its processes since their start.

        Raises:
            RunInvalidError: a service has ended.
        """
        now = ProcessSnapshot.take()
        return {name: now.tree_s(self._stack.services[name].pid) for name in names}

    def worker_cpu_seconds(self) -> dict[str, float]:
        """CPU seconds of the running worker: in all, of its children, decoders, parent and engines.

        Raises:
            RunInvalidError: the worker or all of its engines have ended.
        """
        engines = children_that_run(self.worker.pid, "worker.engine.runtime")
        if not engines:
            raise RunInvalidError(f"process {self.worker.pid} has no engine; look at the worker's log")
        now = ProcessSnapshot.take()
        whole, parent = now.tree_s(self.worker.pid), now.alone_s(self.worker.pid)
        engine = sum(now.tree_s(pid) for pid in engines)
        decoders = sum(
            now.tree_s(pid)
            for child in now.children(self.worker.pid)
            for pid in children_that_run(child, "dropline.images.decoder_process")
        )
        return {
            "worker": whole,
            "of which its children": whole - parent - engine - decoders,
            "of which their decoders": decoders,
            "of which its parent": parent,
            "of which its engine": engine,
        }

    def log_bytes(self, name: str) -> int:
        """The size of a service's log."""
        return self._stack.services[name].log_path.stat().st_size

    def gallery_bytes(self) -> int:
        """Memory of the gallery."""
        return resident_bytes(self._stack.services["gallery"].pid)

    def command_environment(self) -> dict[str, str]:
        """The variables of a command, as in the stack's file `env`."""
        return dict(self._environment)

    def stop(self, name: str) -> None:
        """Stop one service."""
        self.service(name).stop()

    def service(self, name: str) -> Service:
        """One service, for stopping and starting."""
        return self._stack.services[name]

    def broker(self) -> redis.Redis:
        """A new client of Redis."""
        return redis.Redis.from_url(self._environment["DROPLINE_BROKER__URL"], decode_responses=True)

    def publications(self) -> Publications:
        """A record of the events from now on, with the times of their publication."""
        return Publications(self._environment["PUBSUB_EMULATOR_HOST"])

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """A listener for all changes of rows from now on."""
        settings = DatabaseSettings.model_validate({"url": self._environment["DATABASE_URL"]})
        with listening(settings, "dropline-benchmark") as listener:
            yield listener

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """A connection to Postgres."""
        with psycopg.connect(self._environment["DATABASE_URL"], autocommit=True) as connection:
            yield connection

    @contextmanager
    def storage(self) -> Iterator[Client]:
        """Google's client of Cloud Storage."""
        options = {"api_endpoint": self._environment["STORAGE_EMULATOR_HOST"]}
        client = Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)
        with closing(client):
            yield client


@contextmanager
def benchmark_stack(
    model: str = "stub",
    concurrency: int = 4,
    database_url: str | None = None,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[BenchmarkStack]:
    """Start a stack in a temporary directory; stop the stack and remove the directory at the end.

    Args:
        model: of the engine; see `StackOptions.model`.
        concurrency: images in the worker at the same time.
        database_url: of a database of the caller's; None: the stack starts a Postgres of its own.
        environment: further settings of the services.

    Raises:
        LocalStackError: a service does not start.
    """
    with (
        open_directory() as directory,
        Stack(
            StackOptions(
                directory,
                port_base=0,
                model=model,
                concurrency=concurrency,
                database_url=database_url,
                environment={**_ENVIRONMENT, **environment},
            )
        ) as stack,
        closing(Messages(stack.environment["DROPLINE_BROKER__URL"])) as messages,
    ):
        yield BenchmarkStack(stack, messages)


@contextmanager
def open_directory() -> Iterator[Path]:
    """A temporary directory that every user can enter; removed at the end with the targets of its links."""
    with TemporaryDirectory(prefix="dropline-benchmark-") as name:
        path = Path(name)
        # If root starts the stack, Postgres runs as another user and must enter the directory.
        path.chmod(0o755)
        yield path
        # If the other user cannot read the wheels, the cluster is in another directory, with a link from here.
        for link in path.iterdir():
            if link.is_symlink():
                shutil.rmtree(link.resolve())
