"""Fixtures: a bucket of the emulator, and a database."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import make_url

from local_emulators.gcs import GcsServer
from tests.support.bulk import BulkRig, open_bulk_rig


@pytest.fixture
def bulk(database_url: str, redis_url: str, gcs_server: GcsServer) -> Iterator[BulkRig]:
    """A new bucket and a new database."""
    bucket = f"bulk-{make_url(database_url).database}".replace("_", "-")
    with open_bulk_rig(database_url, redis_url, gcs_server.url, bucket) as rig:
        yield rig
