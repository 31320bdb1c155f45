"""The features of Pub/Sub used by Dropline: one suite for Dropline's emulator and, if installed, Google's.

A test with a known difference between Google's emulator and Pub/Sub is expected to fail with Google's emulator;
an unexpected pass is an error. docs/pubsub-emulator.md lists the differences.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_emulators import pubsub_process
from local_emulators.errors import MissingBinaryError
from local_emulators.ports import free_ports
from local_emulators.pubsub_process import google_emulator_command
from local_emulators.supervisor import Supervisor
from tests.support.pubsub import Differs, Pubsub, PushEndpoint


@pytest.fixture(scope="session", params=["own", "google"])
def emulator(request: pytest.FixtureRequest) -> str:
    """The emulator of the test: Dropline's own, or Google's."""
    if request.param == "google":
        try:
            google_emulator_command("127.0.0.1", 1)
        except MissingBinaryError as error:
            pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="session")
def host(emulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The HOST:PORT of a running emulator."""
    directory: Path = tmp_path_factory.mktemp(emulator)
    with Supervisor(directory) as supervisor:
        yield pubsub_process.start(supervisor, free_ports(1)[0], "google" if emulator == "google" else "own").host


@pytest.fixture
def pubsub(host: str, request: pytest.FixtureRequest) -> Iterator[Pubsub]:
    """Clients, and a separate project for each test."""
    with Pubsub.connect(host, f"test-{abs(hash(request.node.nodeid))}") as connected:
        yield connected


@pytest.fixture
def google_differs(emulator: str, request: pytest.FixtureRequest) -> Differs:
    """Declares a known failure of Google's emulator, with the reason."""

    def declare(reason: str) -> None:
        if emulator == "google":
            request.applymarker(pytest.mark.xfail(reason=f"Google's emulator: {reason}", strict=True))

    return declare


@pytest.fixture
def endpoint() -> Iterator[PushEndpoint]:
    """An endpoint with a 204 response to every push."""
    with PushEndpoint(lambda _request: 204) as running:
        yield running
