"""A running stack with the demo model, shared by the acceptance tests that neither stop nor change services."""

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client
from psycopg.rows import dict_row

from local_emulators.options import BUCKET, PROJECT, StackOptions
from local_emulators.stack import Stack
from tests.support.services import open_directory

#: Longer than any step on a busy machine; no test measures a duration.
DEADLINE_S = 180.0


@dataclass(frozen=True)
class LocalCloud:
    """A running stack, reached by the variables of `.local/env` alone, like by a user."""

    stack: Stack
    storage: Client

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a shell after `source .local/env`."""
        return os.environ | self.stack.environment

    @property
    def bucket(self) -> Bucket:
        """The watched bucket."""
        return self.storage.bucket(BUCKET)

    def run(self, *command: str) -> str:
        """Run a command in the environment of such a shell, and return the output."""
        finished = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False
        )
        assert finished.returncode == 0, f"{command}: {finished.stdout}{finished.stderr}"
        return finished.stdout

    @contextmanager
    def changes(self) -> Iterator["Changes"]:
        """Connect as the reader, and listen to changes of rows."""
        url = self.stack.environment["DATABASE_URL"]
        with psycopg.connect(url, autocommit=True, row_factory=dict_row) as connection:
            connection.execute("LISTEN captions")
            yield Changes(connection)


@dataclass(frozen=True)
class Changes:
    """The rows that the reader can see, and notifications of their changes."""

    connection: psycopg.Connection[dict[str, Any]]

    def rows(self, query: str, *values: object) -> list[dict[str, Any]]:
        """Run the query and return the rows."""
        return self.connection.execute(query, values).fetchall()

    def wait_for(self, count: int, query: str, *values: object) -> list[dict[str, Any]]:
        """Return the rows of the query once at least `count` exist; each notification repeats the query."""
        deadline = monotonic() + DEADLINE_S
        while True:
            found = self.rows(query, *values)
            if len(found) >= count:
                return found
            remaining = deadline - monotonic()
            seen = self.rows(
                "SELECT object_name, generation, status, error FROM captions ORDER BY id DESC LIMIT 9"
            )
            assert remaining > 0, f"{len(found)} of {count} rows after {DEADLINE_S} s; latest rows: {seen}"
            next(self.connection.notifies(timeout=remaining, stop_after=1), None)


@pytest.fixture(scope="session")
def cloud() -> Iterator[LocalCloud]:
    """The stack with the demo model, on free ports."""
    with open_directory() as directory, Stack(StackOptions(directory, port_base=0)) as stack:
        client = Client(
            project=PROJECT,
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": stack.environment["STORAGE_EMULATOR_HOST"]},
        )
        yield LocalCloud(stack, client)
        client.close()


@pytest.fixture(scope="session")
def prefixes() -> Iterator[str]:
    """Unused prefixes of object names."""
    return (f"drop-{number}/" for number in itertools.count(1))


@pytest.fixture
def prefix(prefixes: Iterator[str]) -> str:
    """A prefix of object names for a single test."""
    return next(prefixes)
