"""Composition root of the gallery: resources from the settings, served by uvicorn."""

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from db.session import Database, reader_settings
from db.start_check import READER
from dropline.errors import SettingsError
from dropline.log import configure_process_logging, get_logger
from dropline.settings import GallerySettings, Settings, load_settings
from dropline.storage.bucket import Storage
from gallery.access import Access, Scope, TokenEntry, is_loopback
from gallery.app import create_app
from gallery.connection import TimedConnection
from gallery.copies import open_copies
from gallery.hub import ChangeHub
from gallery.iap import IapVerifier
from gallery.resources import Resources
from gallery.rows import open_no_rows, open_rows
from operations.submit import Submissions

log = get_logger(__name__)

_APPLICATION = "dropline-gallery"
#: A person waits: shorter than the retries of commands, in seconds.
_STORAGE_RETRY_S = 5.0
#: For clients that are slow when the gallery stops, in seconds; shorter than uvicorn's patience.
_LAST_BYTES_S = 2.0


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    settings = load_settings()
    configure_process_logging(settings.log.level, settings.log.format, "gallery")
    with open_resources(settings) as resources:
        # uvicorn repeats the signal at its end, which would end the process before the resources are closed.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        server = GalleryServer(resources)
        server.run()
    return 0 if server.started else 1


class GalleryServer(uvicorn.Server):
    """uvicorn with the gallery's application."""

    def __init__(self, resources: Resources) -> None:
        """Bind no port yet."""
        settings = resources.settings.gallery
        self.resources = resources
        app = create_app(resources)
        app.state.disconnect = self.disconnect
        app.state.count_connections = lambda: len(self.server_state.connections)
        super().__init__(
            uvicorn.Config(
                app,
                host=settings.host,
                port=settings.port,
                http=TimedConnection,
                ws="none",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                # Any client of the port can forge a forwarded address.
                proxy_headers=False,
                # The longest id of a caption, and the id of an event on a busy server, are some thousand bytes.
                h11_max_incomplete_event_size=65_536,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=5,
            )
        )

    @property
    def port(self) -> int:
        """The port that is listened to; after the start."""
        port: int = self.servers[0].sockets[0].getsockname()[1]
        return port

    def disconnect(self, address: tuple[str, int]) -> None:
        """Cut the connections of a client's address, with all waiting bytes."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.client == address:
                connection.transport.abort()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind the port, and log the address."""
        await super().startup(sockets)
        if self.started:
            log.info("gallery_ready", host=self.config.host, port=self.port)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the event streams first, which never end by themselves; later the answers that are not read."""
        self.resources.hub.feed.end_streams()
        asyncio.get_running_loop().call_later(_LAST_BYTES_S, self._cut_off_unread)
        await super().shutdown(sockets)

    def _cut_off_unread(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, H11Protocol) and connection.flow.write_paused:
                connection.transport.abort()


@contextmanager
def open_resources(settings: Settings) -> Iterator[Resources]:
    """The resources of the gallery; connections are opened on first use and closed at the end of the block.

    Raises:
        SettingsError: a setting is missing or wrong, or strangers could use the gallery.
    """
    access = access_from(settings.gallery)
    reading = reader_settings(settings)
    # A gallery that only reads needs no Redis, and may have no right to its URL.
    is_writing = bool(access.scopes & {Scope.SUBMIT, Scope.EDIT}) or bool(settings.broker.url)
    # One connection for each thread of requests, and one for the hub's.
    connections = settings.gallery.threads + 1
    with (
        closing(
            Database.connect(reading, _APPLICATION, READER, connections=connections, is_bounded=True)
        ) as reader,
        open_copies(settings) as copies,
        (open_rows if is_writing else open_no_rows)(settings) as rows,
    ):
        submissions = Submissions(Storage.connect(settings, retry_s=_STORAGE_RETRY_S), settings, rows)
        hub = ChangeHub(reading, f"{_APPLICATION}-listen", reader)
        yield Resources(settings, access, reader, copies, rows, submissions, hub)


def access_from(settings: GallerySettings) -> Access:
    """The check of senders and their scopes.

    Raises:
        SettingsError: a token is malformed; or the address is no loopback address, and there are neither tokens
            nor an Identity-Aware Proxy.
    """
    entries = [TokenEntry.parse(each) for each in (*settings.tokens, *_lines(settings.tokens_file))]
    if not entries and not settings.iap_audience and not is_loopback(settings.host):
        raise SettingsError(
            f"DROPLINE_GALLERY__HOST is {settings.host!r}, which other machines can reach, and the gallery has "
            "neither a token nor an Identity-Aware Proxy: make a token with `dropline gallery token`, set "
            "DROPLINE_GALLERY__IAP_AUDIENCE, or listen on 127.0.0.1"
        )
    proxy = IapVerifier(settings) if settings.iap_audience else None
    return Access(entries, proxy, open_to_machine=not entries and not settings.iap_audience)


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_text().splitlines() if path else []
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"DROPLINE_GALLERY__TOKENS_FILE cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
