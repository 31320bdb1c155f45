"""Unit tests open no socket: one that tries fails."""

from collections.abc import Iterator

import pytest
from pytest_socket import disable_socket, enable_socket


@pytest.fixture(autouse=True)
def no_sockets() -> Iterator[None]:
    """Refuses every socket but Unix ones, which event loops make for themselves."""
    disable_socket(allow_unix_socket=True)
    yield
    enable_socket()
