"""A unit test that opens a socket fails."""

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    """Refuse every socket except Unix sockets, which event loops need."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
