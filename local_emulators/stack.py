"""The local stack: starts the services in order, each with the addresses of the earlier services."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from local_emulators import application, checks, database, flower, gcs, postgres, pubsub_process, redis
from local_emulators.application import ServiceEnvironment
from local_emulators.database import DatabaseUrls
from local_emulators.directory import (
    Addresses,
    Passwords,
    StackDirectory,
    boto_lines,
    export_lines,
    shell_variables,
    write_private,
)
from local_emulators.model import Progress, checkpoint_name, download, is_on_hub
from local_emulators.options import BUCKET, PROJECT, TOPIC, StackOptions
from local_emulators.ports import HOST, SERVICES, Ports, require_free
from local_emulators.subscriptions import create_subscriptions
from local_emulators.supervisor import Service, Supervisor

#: Called for every ready service, with the name and a description (address and contents).
Announce = Callable[[str, str], None]


def _ignore(*_: object) -> None:
    """No output."""


class Stack:
    """Postgres, Redis, Pub/Sub, Cloud Storage, function, worker, gallery and possibly Flower, as local processes.

    As a context manager the stack starts on entry and stops on exit::

        with Stack(StackOptions(directory, port_base=0, model="stub")) as stack:
            subprocess.run([...], env=os.environ | stack.environment)
    """

    def __init__(self, options: StackOptions, announce: Announce = _ignore, progress: Progress = _ignore) -> None:
        self.options = options
        self.ports = options.ports or Ports.from_base(options.port_base)
        self.directory = StackDirectory(options.directory)
        #: The variables of the `env` file; empty until the stack is ready.
        self.environment: dict[str, str] = {}
        #: Rows of the bucket at the start. The bucket is in memory and new, so these rows have no object. They are
        #: not marked as deleted: their captions were made at some cost, and a person may still search them.
        self.earlier_rows = 0
        self._announce = announce
        self._progress = progress
        self._supervisor = Supervisor(self.directory.logs)

    @property
    def services(self) -> dict[str, Service]:
        """The running services by name: postgres, redis, pubsub, gcs, function, worker, gallery, flower."""
        return self._supervisor.services

    @property
    def function_url(self) -> str:
        """The push endpoint of the function."""
        return f"http://{HOST}:{self.ports.function}/"

    @property
    def gallery_url(self) -> str:
        """The address of the gallery, without a path."""
        return f"http://{HOST}:{self.ports.gallery}"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts all services in order and writes the `env` file; stops all services on an error.

        Raises:
            SettingsError: a `DROPLINE_*` variable or a URL in the options is wrong.
            MissingBinaryError, PortInUseError, DirectoryInUseError: before the start of the affected service.
            ServiceDiedError, ServiceNotReadyError: a service did not become ready; the message has the cause.
            StartCancelledError: `cancel` was called.
            LocalStackError: all other known failures.
        """
        try:
            self._start()
        except BaseException:
            self._supervisor.stop()
            self.directory.remove_if_unused()
            self.stop()
            raise

    def wait_for_death(self) -> Service | None:
        """Blocks until a service ends unexpectedly, and returns the service; None after `cancel`."""
        return self._supervisor.wait_for_death()

    def cancel(self) -> None:
        """Ends `start` and `wait_for_death` from another thread."""
        self._supervisor.cancel()

    def stop(self) -> None:
        """Stops all services in reverse order; a second call has no effect."""
        self.environment = {}
        self._supervisor.stop()
        self.directory.release()

    def kill(self) -> None:
        """Sends SIGKILL to all services; a running `stop` then ends at once."""
        self._supervisor.kill()

    def create_subscriptions(self) -> None:
        """Creates topics and subscriptions on the running Pub/Sub emulator, which starts without."""
        create_subscriptions(self._pubsub_host, self.function_url)

    def _start(self) -> None:
        checks.check(self.options)
        passwords = self.directory.acquire()
        # All ports before the first service: a start that fails leaves no half-made state.
        for name in self._used_ports():
            require_free(getattr(self.ports, name), SERVICES[name])
        if is_on_hub(self.options.model):
            self._download_model(self.options.model)
        database_urls = self._start_database(passwords)
        broker_url = self._start_broker(passwords)
        self._start_pubsub()
        storage_url = self._start_storage()
        self.earlier_rows = database.count_rows(database_urls.reader, BUCKET)
        events = {"DROPLINE_BROKER__SEND_EVENTS": "true"} if self.options.flower else {}
        shared = ServiceEnvironment(broker_url, storage_url, {**events, **self.options.environment})
        self._start_function(shared, database_urls)
        self._start_worker(shared, database_urls)
        self._start_gallery(shared, database_urls)
        if self.options.flower:
            self._start_flower(broker_url)
        self._write_environment(database_urls, shared)

    def _used_ports(self) -> list[str]:
        """The fields of `Ports` on which a service of this stack will listen."""
        options = self.options
        is_used = {
            "postgres": options.database_url is None,
            "redis": options.redis_url is None,
            "flower": options.flower,
        }
        return [name for name in SERVICES if is_used.get(name, True)]

    def _download_model(self, model: str) -> None:
        download(self._supervisor, model, self._progress)
        self._announce("model", f"{checkpoint_name(model)}, in the local cache")

    def _start_database(self, passwords: Passwords) -> DatabaseUrls:
        own = self.options.database_url
        if own is not None:
            database.migrate(own, "The database is that of --database-url; nothing else was started.")
            self._announce("postgres", "your own, migrated")
            return DatabaseUrls.same_for_all(own)
        server = postgres.start(self._supervisor, self.directory.postgres, self.ports.postgres, passwords.postgres)
        urls = database.prepare(server, passwords)
        self._announce("postgres", f"{HOST}:{self.ports.postgres}, migrated")
        return urls

    def _start_broker(self, passwords: Passwords) -> str:
        own = self.options.redis_url
        if own is not None:
            self._announce("redis", "your own")
            return own
        server = redis.start(self._supervisor, self.directory.redis, self.ports.redis, passwords.redis)
        self._announce("redis", f"{HOST}:{self.ports.redis}")
        return server.url

    def _start_pubsub(self) -> None:
        pubsub_process.start(self._supervisor, self.ports.pubsub, self.options.pubsub)
        self.create_subscriptions()
        self._announce("pubsub", f"{self._pubsub_host}, topic {TOPIC}")

    def _start_storage(self) -> str:
        events = gcs.EventTarget(self._pubsub_host, PROJECT, TOPIC)
        server = gcs.start(self._supervisor, self.ports.gcs_http, self.ports.gcs_https, events)
        gcs.create_bucket(server.url, PROJECT, BUCKET)
        self._announce("gcs", f"{server.url}, bucket gs://{BUCKET}")
        return server.url

    def _start_function(self, shared: ServiceEnvironment, urls: DatabaseUrls) -> None:
        application.start_function(self._supervisor, self.ports.function, shared, urls.ingest)
        self._announce("function", self.function_url)

    def _start_worker(self, shared: ServiceEnvironment, urls: DatabaseUrls) -> None:
        model, concurrency = self.options.model, self.options.concurrency
        application.start_worker(self._supervisor, shared, urls.worker, model, concurrency)
        self._announce("worker", f"model {model}, {concurrency} images at once")

    def _start_gallery(self, shared: ServiceEnvironment, urls: DatabaseUrls) -> None:
        application.start_gallery(self._supervisor, self.ports.gallery, shared, urls, self.directory.gallery)
        self._announce("gallery", self.gallery_url)

    def _start_flower(self, broker_url: str) -> None:
        file = self.directory.flower_password_file
        password, is_new = flower.read_or_make_password(file)
        flower.start(self._supervisor, self.ports.flower, broker_url, file)
        shown = f"{password} (kept in {file})" if is_new else f"in {file}"
        self._announce("flower", f"http://{HOST}:{self.ports.flower}, user {flower.USER}, password {shown}")

    def _write_environment(self, urls: DatabaseUrls, shared: ServiceEnvironment) -> None:
        addresses = Addresses(
            reader_url=urls.reader,
            ingest_url=urls.ingest,
            broker_url=shared.broker_url,
            storage_url=shared.storage_url,
            storage_https_port=self.ports.gcs_https,
            pubsub_host=self._pubsub_host,
            gallery_url=self.gallery_url,
        )
        directory = self.directory
        write_private(directory.boto_file, boto_lines(addresses, directory.path))
        self.environment = shell_variables(addresses, directory.path) | shared.rules()
        write_private(directory.environment_file, export_lines(self.environment))

    @property
    def _pubsub_host(self) -> str:
        return f"{HOST}:{self.ports.pubsub}"
