"""The settings of the function, for commands in the test's process."""

import pytest


@pytest.fixture
def as_the_function(monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, own_logging: None) -> None:
    """Environment variables of the function."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", database_url)
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
