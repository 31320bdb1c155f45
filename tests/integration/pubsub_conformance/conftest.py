"""What Dropline relies on in Pub/Sub: one suite, run against our emulator and, where it is installed, Google's.

Where Google's emulator differs from Pub/Sub itself, the test says so and is expected to fail there, so that the
day it changes is noticed. docs/pubsub-emulator.md lists the differences.
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
def flavour(request: pytest.FixtureRequest) -> str:
    """Whose emulator runs."""
    if request.param == "google":
        try:
            google_emulator_command("127.0.0.1", 1)
        except MissingBinaryError as error:
            pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="session")
def host(flavour: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running emulator's HOST:PORT."""
    directory: Path = tmp_path_factory.mktemp(flavour)
    with Supervisor(directory) as supervisor:
        yield pubsub_process.start(supervisor, free_ports(1)[0], "google" if flavour == "google" else "own").host


@pytest.fixture
def pubsub(host: str, request: pytest.FixtureRequest) -> Iterator[Pubsub]:
    """Clients, and a project for this test alone."""
    with Pubsub.connect(host, f"test-{abs(hash(request.node.nodeid))}") as connected:
        yield connected


@pytest.fixture
def google_differs(flavour: str, request: pytest.FixtureRequest) -> Differs:
    """Declares that Google's emulator is known to fail this test, and why."""

    def declare(reason: str) -> None:
        if flavour == "google":
            request.applymarker(pytest.mark.xfail(reason=f"Google's emulator: {reason}", strict=True))

    return declare


@pytest.fixture
def endpoint() -> Iterator[PushEndpoint]:
    """An endpoint that acknowledges everything."""
    with PushEndpoint(lambda _request: 204) as running:
        yield running
