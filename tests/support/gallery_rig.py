"""The gallery over HTTP for tests: uvicorn in a thread; real Postgres, Redis and Cloud Storage."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
import psycopg
from sqlalchemy.engine import make_url

from db.session import Database
from dropline.settings import Settings
from gallery.server import GalleryServer, open_resources
from local_emulators import gcs
from local_emulators.gcs import GcsServer
from tests.support.rows import database_of

_LOGINS = {"gallery_test_reader": "dropline_reader", "gallery_test_submitter": "dropline_gallery"}
_PASSWORD = "gallery-test"


@dataclass(frozen=True)
class GalleryRig:
    """A running gallery."""

    url: str
    settings: Settings
    #: Postgres with all rights, for the part of function and worker.
    database: Database
    server: GalleryServer

    def client(self, token: str | None = None, **options: Any) -> httpx2.Client:
        """A client of the gallery."""
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=120, **options)


def settings_for(database_url: str, redis_url: str, gcs_server: GcsServer, **gallery: Any) -> Settings:
    """Settings of a gallery with a new bucket, and with logins of its two roles."""
    reader, submitter = _logins(database_url)
    bucket = f"gallery-{make_url(database_url).database}".replace("_", "-")
    gcs.create_bucket(gcs_server.url, "test", bucket)
    return Settings.model_validate(
        {
            "STORAGE_EMULATOR_HOST": gcs_server.url,
            "GOOGLE_CLOUD_PROJECT": "test",
            "DATABASE_URL": reader,
            "bucket": bucket,
            "broker": {"url": redis_url},
            "events": {"buckets": (bucket,), "max_size_bytes": 1_000_000, "exclude": ("private/**",)},
            "gallery": {"port": 0, "database_url": submitter, **gallery},
        }
    )


@contextmanager
def open_gallery(settings: Settings, database_url: str) -> Iterator[GalleryRig]:
    """A gallery in a thread, stopped at the end of the block."""
    with open_resources(settings) as resources, database_of(database_url) as database:
        server = _ThreadServer(resources)
        thread = threading.Thread(target=server.run, name="gallery")
        thread.start()
        try:
            assert server.has_started.wait(120)
            yield GalleryRig(f"http://127.0.0.1:{server.port}", settings, database, server)
        finally:
            server.should_exit = True
            thread.join(60)
        assert not thread.is_alive()


class _ThreadServer(GalleryServer):
    """A server whose start another thread can wait for."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.has_started = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.has_started.set()


def _logins(database_url: str) -> list[str]:
    """URLs of logins with the roles; roles belong to the server, so a test before may have created the logins."""
    with psycopg.connect(database_url, autocommit=True) as admin:
        for login, role in _LOGINS.items():
            if admin.execute("SELECT FROM pg_roles WHERE rolname = %s", (login,)).fetchone() is None:
                admin.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{_PASSWORD}' IN ROLE {role}".encode())
    url = make_url(database_url)
    return [url.set(username=login, password=_PASSWORD).render_as_string(hide_password=False) for login in _LOGINS]
