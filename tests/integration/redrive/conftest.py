"""A redrive with the function's settings, and the broker that it writes to."""

from collections.abc import Iterator

import pytest
import redis
from pydantic import SecretStr

from db.session import libpq_url
from dropline.cli.redriving import Redriver, open_redriver
from dropline.settings import BrokerSettings, DatabaseSettings, Settings
from tests.support.redrives import ignore


@pytest.fixture
def as_the_function(monkeypatch: pytest.MonkeyPatch, database: str, redis_url: str, own_logging: None) -> None:
    """The variables that the function has."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", libpq_url(database))
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def queue(redis_url: str) -> Iterator["redis.Redis"]:
    """The broker, to look at."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def settings(database: str, redis_url: str) -> Settings:
    """Of an impatient broker."""
    return Settings(
        database=DatabaseSettings(url=SecretStr(libpq_url(database))),
        broker=BrokerSettings(url=SecretStr(redis_url), publish_timeout_s=0.5),
    )


@pytest.fixture
def redriver(settings: Settings) -> Iterator[Redriver]:
    """As the command opens it."""
    with open_redriver(settings, ignore, ignore) as found:
        yield found
