"""Many event streams and waits at once: the load of `benchmarks.gallery_load`, less of it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import httpx2
import psycopg
import pytest

from benchmarks.gallery_clients import (
    change_of,
    open_streams,
    require_each_once,
    wait_for_caption,
    wait_until_heard,
)
from benchmarks.gallery_load import unread_stream
from db.listen import Listener, listening
from db.session import Database
from dropline import caption_id
from dropline.contract import ObjectVersion
from local_emulators.gcs import GcsServer
from local_emulators.supervisor import Supervisor
from tests.support.gallery_process import DEADLINE_S, GalleryProcess, start_gallery
from tests.support.gallery_rig import settings_for
from tests.support.processes import linux_only
from tests.support.rows import TASK, caption_object, caption_row, database_of, drop, settings_of

STREAMS, WAITS, IMAGES = 60, 15, 200
_LISTENING = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dropline-gallery-listen'"


@pytest.fixture
def gallery(database_url: str, redis_url: str, gcs_server: GcsServer, tmp_path: Path) -> Iterator[GalleryProcess]:
    """A gallery as a process."""
    settings = settings_for(database_url, redis_url, gcs_server)
    with Supervisor(tmp_path) as supervisor:
        yield start_gallery(supervisor, settings)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """The part of function and worker."""
    with database_of(database_url) as found:
        yield found


def version_of(gallery: GalleryProcess, number: int) -> ObjectVersion:
    return ObjectVersion(gallery.settings.bucket, f"{number}.png", 1)


def open_client(gallery: GalleryProcess) -> httpx2.AsyncClient:
    """A client with any number of connections."""
    limits = httpx2.Limits(max_connections=None)
    return httpx2.AsyncClient(base_url=gallery.url, timeout=DEADLINE_S, limits=limits)


@linux_only
def test_every_stream_hears_every_change_once(
    gallery: GalleryProcess, database: Database, database_url: str
) -> None:
    """Every wait is answered, a single connection listens, and a client that never reads costs no memory."""
    with database.transaction() as connection:
        awaited = [drop(connection, version_of(gallery, number)) for number in range(WAITS)]
    with unread_stream(gallery.url), listening(settings_of(database_url), "test") as listener:
        asyncio.run(hear_all(gallery, database, awaited, listener))
    with psycopg.connect(database_url) as observer:
        assert len(observer.execute(_LISTENING).fetchall()) == 1


async def hear_all(gallery: GalleryProcess, database: Database, awaited: list[int], listener: Listener) -> None:
    async with open_client(gallery) as client, asyncio.TaskGroup() as waits:
        for number in range(WAITS):
            waits.create_task(wait_for_caption(client, caption_id.encode(version_of(gallery, number), TASK)))
        async with open_streams(client, STREAMS) as streams:
            before = gallery.resident_bytes()
            await asyncio.to_thread(caption_all, gallery, database, awaited)
            count = WAITS + 2 * (IMAGES - WAITS)
            notices = await asyncio.to_thread(lambda: list(islice(listener.notices(DEADLINE_S), count)))
            await wait_until_heard(streams, count, DEADLINE_S)
            require_each_once(streams, Counter(map(change_of, notices)))
            assert gallery.resident_bytes() - before < 30_000_000


def caption_all(gallery: GalleryProcess, database: Database, awaited: list[int]) -> None:
    """Caption the rows that are there, and those of further images, many at a time."""
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda row_id: caption_row(database, row_id), awaited))
        further = (version_of(gallery, number) for number in range(WAITS, IMAGES))
        list(threads.map(lambda version: caption_object(database, version), further))
