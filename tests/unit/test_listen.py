"""Listening across lost connections, with scripted losses."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import pytest

from db.filtered import parse_filtered
from db.listen import RECONNECT_PAUSES_S, Notice, ReconnectingListener, parse_notice
from dropline.contract import ChangeNotice
from dropline.errors import DatabaseUnavailable
from dropline.settings import DatabaseSettings

NOTICE = parse_notice(
    json.dumps(
        {
            "id": 7,
            "bucket": "b",
            "object_name": "n",
            "generation": 1,
            "task": "<CAPTION>",
            "status": "queued",
            "metadata_written": False,
        }
    )
)


class Postgres:
    """Connections in order: each is a number of notifications before the loss, or None if refused."""

    def __init__(self, *connections: int | None) -> None:
        self._connections = iter(connections)
        self.timeouts: list[float | None] = []
        self.pauses: list[float] = []
        self.reports: list[str] = []

    @contextmanager
    def listening(self, _settings: DatabaseSettings, _application_name: str) -> Iterator["_Connection"]:
        notices = next(self._connections, None)
        if notices is None:
            raise DatabaseUnavailable("refused")
        yield _Connection(self, notices)


class _Connection:
    def __init__(self, postgres: Postgres, notices: int) -> None:
        self._postgres = postgres
        self._notices = notices

    def all_notices(self, timeout_s: float | None = None) -> Iterator[Notice]:
        self._postgres.timeouts.append(timeout_s)
        for _ in range(self._notices):
            yield NOTICE
        raise DatabaseUnavailable("lost")


class Reader:
    """Yields the name of the called method."""

    def catch_up(self) -> Iterator[str]:
        yield "caught up"

    def read(self, notice: Notice) -> Iterator[str]:
        assert isinstance(notice, ChangeNotice)
        yield f"row {notice.id}"


def follow(monkeypatch: pytest.MonkeyPatch, postgres: Postgres, timeout_s: float | None = None) -> list[str]:
    """All elements read until Postgres refuses every attempt."""
    monkeypatch.setattr("db.listen.listening", postgres.listening)
    monkeypatch.setattr("time.sleep", postgres.pauses.append)
    found: list[str] = []
    with (
        pytest.raises(DatabaseUnavailable, match="refused"),
        ReconnectingListener(DatabaseSettings(), "test", postgres.reports.append) as listener,
    ):
        # `extend` keeps the elements before the error.
        found.extend(listener.follow(Reader(), timeout_s))
    return found


def test_the_table_is_read_after_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change without a connection has no notification."""
    postgres = Postgres(2, 1)
    assert follow(monkeypatch, postgres) == ["caught up", "row 7", "row 7", "caught up", "row 7"]
    assert postgres.reports[:3] == ["listening", "lost; trying again in 0.2 s", "listening"]


def test_the_pauses_begin_anew_after_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first pause is the shortest, and the last error is raised after the longest."""
    postgres = Postgres(0, None, None, 0)
    follow(monkeypatch, postgres)
    assert postgres.pauses == [*RECONNECT_PAUSES_S[:3], *RECONNECT_PAUSES_S]


def test_no_pause_exceeds_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the time limit is the timeout of the notifications, too."""
    postgres = Postgres(0)
    follow(monkeypatch, postgres, timeout_s=0.0)
    assert postgres.timeouts == [0.0]
    assert set(postgres.pauses) == {0.0}


def test_the_first_connection_is_attempted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong address is an error at once."""
    postgres = Postgres()
    monkeypatch.setattr("db.listen.listening", postgres.listening)
    with pytest.raises(DatabaseUnavailable), ReconnectingListener(DatabaseSettings(), "test"):
        pass


@pytest.mark.parametrize(
    "payload", ["", "junk", "[]", "null", "{}", '{"id": "x"}', '{"id": 1e999}', "[" * 100_000]
)
def test_a_strangers_notification_is_no_change(payload: str) -> None:
    """Any login of the database may notify the channel; `Listener` passes over such a notification."""
    with pytest.raises(ValueError, match=r".*"):
        parse_notice(payload)
    with pytest.raises(ValueError, match=r".*"):
        parse_filtered(payload)


@pytest.mark.parametrize("field", ["id", "generation", "changed_in"])
@pytest.mark.parametrize("number", [-1, 2**63, 10**30])
def test_a_number_that_no_row_has_is_no_change(field: str, number: int) -> None:
    """The statement that reads the rows of notifications would be refused, with those of other notifications."""
    with pytest.raises(ValueError, match="not a number of a row"):
        parse_notice(json.dumps(asdict(NOTICE) | {field: number}))
