"""A whole stack with a stub engine, fresh for each part, and what the parts ask of it."""

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import redis
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from benchmarks.cpu import Snapshot, child_that_runs
from benchmarks.messages import Messages
from db.listen import Listener, listening
from dropline.settings import DatabaseSettings
from local_emulators.options import BUCKET, PROJECT, StackOptions
from local_emulators.stack import Stack
from local_emulators.supervisor import Service

#: A worker stops once its blocking BRPOP returns: with the default, half a minute later.
_ENVIRONMENT = {"DROPLINE_BROKER__POLLING_INTERVAL_S": "1"}


class Stage:
    """A running stack."""

    def __init__(self, stack: Stack, messages: Messages) -> None:
        self.messages = messages
        self._stack = stack
        self._environment = stack.environment
        #: Images the worker has in flight at once.
        self.concurrency = stack.options.concurrency
        self.bucket = BUCKET
        self.function_url = stack.function_url

    @property
    def worker(self) -> Service:
        """The worker, to be stopped and started."""
        return self._stack.services["worker"]

    def cpu_seconds(self, *names: str) -> dict[str, float]:
        """Service → CPU seconds so far of all its processes.

        Raises:
            RunInvalidError: one of them has ended.
        """
        now = Snapshot.take()
        return {name: now.tree_s(self._stack.services[name].pid) for name in names}

    def worker_cpu_seconds(self) -> dict[str, float]:
        """CPU seconds so far of the running worker, by the part its processes play.

        Raises:
            RunInvalidError: the worker or its engine has ended.
        """
        engine_pid = child_that_runs(self.worker.pid, "worker.engine.runtime")
        now = Snapshot.take()
        whole, parent, engine = now.tree_s(self.worker.pid), now.alone_s(self.worker.pid), now.tree_s(engine_pid)
        return {
            "worker": whole,
            "of which its children": whole - parent - engine,
            "of which its parent": parent,
            "of which its engine": engine,
        }

    def log_bytes(self, name: str) -> int:
        """What a service has logged so far."""
        return self._stack.services[name].log_path.stat().st_size

    def stop(self, name: str) -> None:
        """Stop one service."""
        self._stack.services[name].stop()

    def broker(self) -> redis.Redis:
        """A client of Redis of the caller's own."""
        return redis.Redis.from_url(self._environment["DROPLINE_BROKER__URL"], decode_responses=True)

    @contextmanager
    def listening(self) -> Iterator[Listener]:
        """Hears every change of a row from now on."""
        settings = DatabaseSettings.model_validate({"url": self._environment["DATABASE_URL"]})
        with listening(settings, "dropline-benchmark") as listener:
            yield listener

    @contextmanager
    def database(self) -> Iterator[psycopg.Connection]:
        """A connection that may read."""
        with psycopg.connect(self._environment["DATABASE_URL"], autocommit=True) as connection:
            yield connection

    @contextmanager
    def storage(self) -> Iterator[Client]:
        """Google's own client."""
        options = {"api_endpoint": self._environment["STORAGE_EMULATOR_HOST"]}
        client = Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)
        with closing(client):
            yield client


@contextmanager
def open_stage() -> Iterator[Stage]:
    """Starts a stack in a directory of its own; stops it and removes the directory at the end.

    Raises:
        LocalStackError: a service does not start.
    """
    with (
        open_directory() as directory,
        Stack(StackOptions(directory, port_base=0, model="stub", environment=_ENVIRONMENT)) as stack,
        closing(Messages(stack.environment["DROPLINE_BROKER__URL"])) as messages,
    ):
        yield Stage(stack, messages)


@contextmanager
def open_directory() -> Iterator[Path]:
    """A directory that every user can reach, removed at the end with what was put elsewhere for it."""
    with TemporaryDirectory(prefix="dropline-benchmark-") as name:
        path = Path(name)
        # Started as root, Postgres runs as another user, who has to get there.
        path.chmod(0o755)
        yield path
        # Where not even the wheels can be reached, the cluster was put elsewhere and linked.
        for link in path.iterdir():
            if link.is_symlink():
                shutil.rmtree(link.resolve())
