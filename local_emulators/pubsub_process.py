"""Pub/Sub as a service of the stack: our own emulator, or Google's where it is installed."""

import sys
from dataclasses import dataclass
from typing import Literal, assert_never

from local_emulators.command import Command, child_environment, python_path
from local_emulators.ports import HOST, require_free
from local_emulators.pubsub.google import google_emulator_command
from local_emulators.supervisor import Service, Supervisor

Flavour = Literal["own", "google"]


@dataclass(frozen=True)
class PubsubServer:
    """A running emulator; `host` is what PUBSUB_EMULATOR_HOST takes."""

    host: str
    service: Service


def start(supervisor: Supervisor, port: int, flavour: Flavour = "own") -> PubsubServer:
    """Starts an emulator without topics; its memory is all it has.

    Raises:
        MissingBinaryError, PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "Pub/Sub")
    argv, ready_line = _command_line(port, flavour)
    service = supervisor.start(
        Command(
            name="pubsub",
            argv=tuple(argv),
            ready_lines=(ready_line,),
            environment=child_environment(PYTHONPATH=python_path()),
        )
    )
    return PubsubServer(host=f"{HOST}:{port}", service=service)


def _command_line(port: int, flavour: Flavour) -> tuple[list[str], str]:
    match flavour:
        case "own":
            argv = [sys.executable, "-m", "local_emulators.pubsub", "--host", HOST, "--port", str(port)]
            return argv, "pubsub emulator ready on"
        case "google":
            return google_emulator_command(HOST, port), "Server started, listening on"
        case _:
            assert_never(flavour)
