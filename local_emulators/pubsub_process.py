"""Pub/Sub as a service of the stack: Dropline's own emulator, or Google's, a Java program of the Cloud SDK."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, assert_never

from local_emulators.errors import MissingBinaryError
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Service, Supervisor

PubsubKind = Literal["own", "google"]

_JAR_GLOB = "platform/pubsub-emulator/lib/cloud-pubsub-emulator-*-all.jar"
_GCLOUD_TIMEOUT = 60


@dataclass(frozen=True)
class PubsubServer:
    """A running emulator; `host` is the value for PUBSUB_EMULATOR_HOST."""

    host: str
    service: Service


def start(supervisor: Supervisor, port: int, kind: PubsubKind = "own") -> PubsubServer:
    """Starts an emulator without topics; all state is in memory.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "Pub/Sub")
    argv, ready_line = _command_line(port, kind)
    service = supervisor.start(
        Command(
            name="pubsub",
            argv=tuple(argv),
            ready_lines=(ready_line,),
            environment=process_environment(PYTHONPATH=python_path()),
        )
    )
    return PubsubServer(host=f"{HOST}:{port}", service=service)


def _command_line(port: int, kind: PubsubKind) -> tuple[list[str], str]:
    match kind:
        case "own":
            argv = [sys.executable, "-m", "local_emulators.pubsub", "--host", HOST, "--port", str(port)]
            return argv, "pubsub emulator ready on"
        case "google":
            return google_emulator_command(HOST, port), "Server started, listening on"
        case _:
            assert_never(kind)


def google_emulator_command(host: str, port: int) -> list[str]:
    """The command line of Google's emulator on the given address.

    Raises:
        MissingBinaryError: Java, the Cloud SDK or the SDK's emulator is not installed.
    """
    java = shutil.which("java")
    if java is None:
        raise MissingBinaryError(
            "Google's Pub/Sub emulator needs Java, and there is no `java` on PATH. Install a Java runtime, "
            "or leave --pubsub out to use Dropline's own emulator."
        )
    return [java, "-jar", str(_find_jar()), f"--host={host}", f"--port={port}"]


def _find_jar() -> Path:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        raise MissingBinaryError(
            "Google's Pub/Sub emulator comes with the Cloud SDK, and there is no `gcloud` on PATH. Install "
            "the SDK, or leave --pubsub out to use Dropline's own emulator."
        )
    # Usually `gcloud` is in the SDK's directory `bin`, or a link to it; running `gcloud info` takes seconds.
    root = Path(gcloud).resolve().parent.parent
    jar = _newest_jar(root) or _newest_jar(_sdk_root(gcloud))
    if jar is None:
        raise MissingBinaryError(
            f"The Cloud SDK in {root} has no Pub/Sub emulator. Run `gcloud components install pubsub-emulator`, "
            "or leave --pubsub out to use Dropline's own emulator."
        )
    return jar


def _newest_jar(root: Path) -> Path | None:
    return max(root.glob(_JAR_GLOB), key=lambda jar: jar.stat().st_mtime, default=None)


def _sdk_root(gcloud: str) -> Path:
    try:
        finished = subprocess.run(
            [gcloud, "info", "--format=value(installation.sdk_root)"],
            capture_output=True, text=True, check=True, timeout=_GCLOUD_TIMEOUT,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise MissingBinaryError(
            f"`gcloud info` did not report the directory of the Cloud SDK ({error}). Repair the SDK, "
            "or leave --pubsub out to use Dropline's own emulator."
        ) from error
    return Path(finished.stdout.strip())
