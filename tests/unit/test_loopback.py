"""Errors of refused connections: those on this machine name the local stack."""

from collections.abc import Callable

import psycopg
import pytest
import redis
import requests

from db.errors import named_error
from dropline.broker.errors import explained
from dropline.errors import StorageUnavailable
from dropline.loopback import local_stack_advice
from dropline.storage.errors import command_errors

_ADVICE = "run `dropline up`, then `source .local/env`"
_OF_POSTGRES = 'connection failed: connection to server at "{}", port 18400 failed: Connection refused'
_OF_REDIS = "Error 111 connecting to {}:18401. Connection refused."
_OF_STORAGE = "HTTPConnectionPool(host='{}', port=18402): Max retries exceeded ([Errno 111] Connection refused)"


def told_by_postgres(host: str) -> str:
    return str(named_error(psycopg.OperationalError(_OF_POSTGRES.format(host))))


def told_by_redis(host: str) -> str:
    return explained(redis.ConnectionError(_OF_REDIS.format(host)))


def told_by_storage(host: str) -> str:
    with (
        pytest.raises(StorageUnavailable) as caught,
        command_errors("gs://b/n", "storage.objects.get", missing="gs://b/n", hint="; a hint"),
    ):
        raise requests.ConnectionError(_OF_STORAGE.format(host))
    return str(caught.value)


@pytest.mark.parametrize("told", [told_by_postgres, told_by_redis, told_by_storage])
def test_a_refusal_on_this_machine_names_the_local_stack(told: Callable[[str], str]) -> None:
    """What to do is at the end of the line; another host's refusal has the general remedy alone."""
    for host in ("127.0.0.1", "localhost", "::1"):
        assert told(host).endswith(_ADVICE)
    for host in ("10.0.0.7", "redis.example.com", "2001:db8::1"):
        assert _ADVICE not in told(host)


@pytest.mark.parametrize(
    "text", ["", "127.0.0.1: timed out", "Connection refused", "11127.0.0.12: Connection refused"]
)
def test_other_errors_have_no_advice(text: str) -> None:
    """A refusal and a loopback address belong together."""
    assert local_stack_advice(text) == ""
