"""An idle stack does not poll: the requests, statements and commands of one minute."""

import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest
import redis
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client
from PIL import Image

from local_emulators.options import BUCKET, PROJECT, StackOptions
from local_emulators.ports import HOST
from local_emulators.process import process_environment
from local_emulators.stack import Stack
from tests.support.services import open_directory

pytestmark = [pytest.mark.acceptance, pytest.mark.quiet]

#: The measured period. No other test waits for time to pass: the traffic of a minute needs a minute.
_MINUTE_S = 60.0

_STATEMENT = re.compile(r"LOG:  (?:statement|execute|fastpath)")
_REQUEST = re.compile(r"HTTP/\d")


@dataclass(frozen=True)
class Traffic:
    """Counts of the received requests, statements and commands."""

    storage_requests: int
    statements: int
    redis_commands: int


def test_a_quiet_minute_has_no_traffic_but_one_armed_brpop() -> None:
    """An idle minute has no request to Cloud Storage, no statement in Postgres and at most two Redis commands.

    A gallery whose page is open, with its event stream, and a `dropline watch` change nothing.
    """
    with (
        open_directory() as directory,
        Stack(StackOptions(directory, port_base=0, model="stub")) as stack,
        _watching(stack) as watcher,
        requests.get(f"{stack.gallery_url}/api/events", stream=True, timeout=2 * _MINUTE_S) as events,
    ):
        lines = events.iter_lines(chunk_size=1)
        _log_every_statement(stack)
        _drop_one(stack)
        assert watcher.stdout
        assert watcher.stdout.readline()
        assert any(b"one.png" in line for line in lines)
        assert "one.png" in requests.get(stack.gallery_url, timeout=60).text
        # Work caused by the start and the upload ends first; connection pools are the last to finish.
        time.sleep(5)
        before = _traffic(stack)
        time.sleep(_MINUTE_S)
        after = _traffic(stack)
        # The stream is still open: a comment was sent during the minute.
        assert any(line == b":" for line in lines)
    assert after.storage_requests == before.storage_requests
    assert after.statements == before.statements
    assert after.redis_commands - before.redis_commands <= 2


def test_the_counters_count() -> None:
    """Control: one image increases every counter, so an unchanged counter means no traffic."""
    with open_directory() as directory, Stack(StackOptions(directory, port_base=0, model="stub")) as stack:
        _log_every_statement(stack)
        before = _traffic(stack)
        _drop_one(stack)
        after = _traffic(stack)
    assert after.storage_requests > before.storage_requests
    assert after.statements > before.statements
    assert after.redis_commands > before.redis_commands


def _log_every_statement(stack: Stack) -> None:
    with psycopg.connect(_superuser(stack), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET log_statement = 'all'")
        connection.execute("SELECT pg_reload_conf()")
    assert stack.services["postgres"].wait_for_line("log_statement", 60)


@contextmanager
def _watching(stack: Stack) -> Iterator["subprocess.Popen[str]"]:
    """A `dropline watch`; it listens when the block begins."""
    environment = process_environment(**stack.environment)
    command = [sys.executable, "-m", "cli", "watch"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stderr
        assert watcher.stderr.readline() == "listening\n"
        yield watcher
        watcher.terminate()


def _superuser(stack: Stack) -> str:
    password = json.loads((stack.directory.path / "passwords.json").read_text())["postgres"]
    return f"postgresql://postgres:{password}@{HOST}:{stack.ports.postgres}/postgres"


def _drop_one(stack: Stack) -> None:
    client = Client(
        project=PROJECT,
        credentials=AnonymousCredentials(),
        client_options={"api_endpoint": stack.environment["STORAGE_EMULATOR_HOST"]},
    )
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    with psycopg.connect(stack.environment["DATABASE_URL"], autocommit=True) as connection:
        connection.execute("LISTEN captions")
        client.bucket(BUCKET).blob("one.png").upload_from_string(file.getvalue(), content_type="image/png")
        for notice in connection.notifies(timeout=120):
            if json.loads(notice.payload)["metadata_written"]:
                break
        else:
            pytest.fail("the image was not captioned")
    client.close()


def _traffic(stack: Stack) -> Traffic:
    logs = stack.directory.logs
    statements = len(_STATEMENT.findall((logs / "postgres.log").read_text()))
    requests = len(_REQUEST.findall((logs / "gcs.log").read_text()))
    return Traffic(requests, statements, _redis_commands(stack))


def _redis_commands(stack: Stack) -> int:
    """The number of commands in Redis's statistics, without INFO and the commands of a connection."""
    with redis.Redis.from_url(stack.environment["DROPLINE_BROKER__URL"]) as client:
        statistics = client.info("commandstats")
    ours = ("cmdstat_info", "cmdstat_auth", "cmdstat_hello", "cmdstat_client", "cmdstat_select")
    return sum(values["calls"] for name, values in statistics.items() if not name.startswith(ours))
