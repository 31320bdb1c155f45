"""Notices of alarms on Redis: those of Dropline are read, and a stranger's message is left out with a log line."""

import json
from collections import deque
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from dropline.broker.alarms import AlarmChannel, AlarmNotice
from dropline.errors import BrokerUnavailable, SettingsError
from dropline.settings import BrokerSettings

YEAR_S = 366 * 24 * 3600.0


class Client:
    """A client of Redis: published messages arrive on its one subscription."""

    def __init__(self) -> None:
        self.arrived: deque[dict[str, Any]] = deque([{"type": "subscribe", "data": 1}])
        self.error: Exception | None = None

    def publish(self, channel: str, document: str) -> None:
        self.check()
        assert channel == "dropline.alarms"
        self.arrived.append({"type": "message", "data": document.encode()})

    def get_message(self, timeout: float) -> dict[str, Any] | None:
        assert timeout == 0.0
        self.check()
        return self.arrived.popleft() if self.arrived else None

    def check(self) -> None:
        if self.error:
            raise self.error


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def channel(client: Client) -> AlarmChannel:
    return channel_of(client)


def channel_of(client: Client) -> AlarmChannel:
    """A channel over the double, subscribed."""
    found = AlarmChannel(BrokerSettings(url=SecretStr("redis://replaced")))
    found._client = client  # type: ignore[assignment]
    found._subscription = client
    return found


def received(message: bytes) -> tuple[list[AlarmNotice], list[str]]:
    """The notices read from a message, and the log lines."""
    client = Client()
    client.arrived.append({"type": "message", "data": message})
    with capture_logs() as lines:
        return channel_of(client).received(), [line["event"] for line in lines]


@settings(deadline=None)
@given(st.text(), st.none() | st.floats(0, YEAR_S) | st.integers(0, int(YEAR_S)))
def test_a_published_alarm_is_received(worker: str, in_s: float | None) -> None:
    """Name and seconds are those of the sender, and no notice is read twice."""
    channel = channel_of(Client())
    channel.publish(AlarmNotice(worker, in_s))
    assert channel.received() == [AlarmNotice(worker, in_s)]
    assert channel.received() == []


@pytest.mark.parametrize(
    "message",
    [
        *(b"", b"x", b"[]", b"{}", b"null", b"1", b'"x"', b"\xff\xfe", b"[" * 60_000, b"9" * 5000),
        *(b'{"worker": "w"}', b'{"in_s": 1}', b'["worker", "in_s"]'),
        *(json.dumps({"worker": worker, "in_s": 1}).encode() for worker in (None, 7, ["w"])),
        *(json.dumps({"worker": "w", "in_s": in_s}).encode() for in_s in ("1", True, [1], -1, -0.5, 2 * YEAR_S)),
        *(b'{"worker": "w", "in_s": %b}' % in_s for in_s in (b"NaN", b"Infinity", b"1e400", b"9" * 4000)),
    ],
    ids=lambda message: repr(message[:40]),
)
def test_a_message_of_a_stranger_is_left_out(message: bytes) -> None:
    """One line in the log; no alarm is set."""
    assert received(message) == ([], ["stranger_alarm_left_out"])


@settings(deadline=None)
@given(st.binary())
def test_any_bytes_are_read(message: bytes) -> None:
    """No bytes break the worker."""
    notices, lines = received(message)
    assert len(notices) + len(lines) == 1


def test_the_notices_around_a_message_of_a_stranger_are_read(client: Client, channel: AlarmChannel) -> None:
    """In the order of their arrival."""
    channel.publish(AlarmNotice("a", 1.0))
    client.arrived.append({"type": "message", "data": b"x"})
    channel.publish(AlarmNotice("b", None))
    assert channel.received() == [AlarmNotice("a", 1.0), AlarmNotice("b", None)]


@pytest.mark.parametrize("error", [RedisConnectionError("refused"), ConnectionResetError("refused")], ids=repr)
def test_without_redis_every_call_raises_an_error_of_ours(
    client: Client, channel: AlarmChannel, error: Exception
) -> None:
    """The error is BrokerUnavailable, with the words of the client library."""
    client.error = error
    with pytest.raises(BrokerUnavailable, match="refused"):
        channel.publish(AlarmNotice("a", 1.0))
    with pytest.raises(BrokerUnavailable, match="refused"):
        channel.received()


def test_without_redis_there_is_no_subscription(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker starts all the same."""

    def refuse(_pool: object) -> None:
        raise RedisConnectionError("refused")

    monkeypatch.setattr(redis.ConnectionPool, "get_connection", refuse)
    channel = AlarmChannel(BrokerSettings(url=SecretStr("redis://replaced")))
    with pytest.raises(BrokerUnavailable, match="cannot subscribe to the alarms on Redis: refused"):
        channel.subscribe()
    channel.close()


def test_a_channel_needs_a_url_of_redis() -> None:
    """The error names the variable."""
    for url in ("", "postgresql://x"):
        with pytest.raises(SettingsError, match="DROPLINE_BROKER__URL"):
            AlarmChannel(BrokerSettings(url=SecretStr(url)))
