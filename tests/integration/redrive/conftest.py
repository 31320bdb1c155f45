"""Redrives with the settings of the function, in the test's process or in another, and the queue on Redis."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import redis
from pydantic import SecretStr

from cli.exit_codes import ExitCode
from dropline.settings import BrokerSettings, DatabaseSettings, Settings
from local_emulators.process import process_environment, python_path
from operations.redrive import FAILED, Redriver, open_redriver
from tests.support.redrives import Redrive, StartRedrive, ended, ignore
from tests.support.worker_rig import Rig


@pytest.fixture
def as_the_function(monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, own_logging: None) -> None:
    """Environment variables of the function."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", database_url)
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)


@pytest.fixture
def queue(redis_url: str) -> Iterator["redis.Redis"]:
    """A client of the test's Redis."""
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        yield client


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    """Settings with a short timeout of Redis."""
    return Settings(
        database=DatabaseSettings(url=SecretStr(database_url)),
        broker=BrokerSettings(url=SecretStr(redis_url), publish_timeout_s=0.5),
    )


@pytest.fixture
def redriver(settings: Settings) -> Iterator[Redriver]:
    """A redriver of failed rows, opened like that of the command."""
    with open_redriver(settings, FAILED, ignore, ignore) as found:
        yield found


@pytest.fixture
def start_redrive(rig: Rig) -> Iterator[StartRedrive]:
    """Starts the command with the settings of the function; the processes end with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
        environment = process_environment(
            PYTHONPATH=python_path(),
            DROPLINE_DATABASE__URL=rig.database_url,
            DROPLINE_BROKER__URL=rig.redis_url,
            **variables,
        )
        command = [sys.executable, "-m", "cli", "redrive", *arguments]
        started.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def redrive(start_redrive: StartRedrive) -> Redrive:
    """Runs the command, which has to succeed."""

    def run(*arguments: str) -> None:
        code, errors = ended(start_redrive(*arguments))
        assert code == ExitCode.OK, errors

    return run
