"""Composition root of the gallery: resources from the settings, served by uvicorn."""

import signal
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn

from db.session import Database, reader_settings
from db.start_check import READER
from dropline.errors import SettingsError
from dropline.log import configure_process_logging, get_logger
from dropline.settings import GallerySettings, Settings, load_settings
from dropline.storage.bucket import Storage
from gallery.access import Access, TokenEntry, is_loopback
from gallery.app import create_app
from gallery.copies import open_copies
from gallery.resources import Resources
from gallery.rows import open_rows
from operations.submit import Submissions

log = get_logger(__name__)


def main() -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    settings = load_settings()
    configure_process_logging(settings.log.level, settings.log.format, "gallery")
    with open_resources(settings) as resources:
        options = uvicorn.Config(
            create_app(resources),
            host=settings.gallery.host,
            port=settings.gallery.port,
            log_config=None,
            access_log=False,
            server_header=False,
            # Forwarded addresses can be forged by everyone who reaches the port.
            proxy_headers=False,
            timeout_graceful_shutdown=5,
        )
        # uvicorn repeats the signal at its end, which would end the process before the resources are closed.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        server = uvicorn.Server(options)
        server.run()
    return 0 if server.started else 1


@contextmanager
def open_resources(settings: Settings) -> Iterator[Resources]:
    """The resources of the gallery; connections are opened on first use and closed at the end of the block.

    Raises:
        SettingsError: a setting is missing or wrong, or strangers could use the gallery.
    """
    access = access_from(settings.gallery)
    reading = reader_settings(settings)
    with (
        closing(
            Database.connect(reading, "dropline-gallery", READER, connections=settings.gallery.threads)
        ) as reader,
        open_copies(settings) as copies,
        open_rows(settings) as rows,
    ):
        submissions = Submissions(Storage.connect(settings), settings, rows)
        yield Resources(settings, access, reader, copies, rows, submissions)


def access_from(settings: GallerySettings) -> Access:
    """The decision who may use the gallery.

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
    return Access(entries, None, open_to_machine=not entries and not settings.iap_audience)


def _lines(path: str) -> list[str]:
    try:
        lines = Path(path).read_text().splitlines() if path else []
    except OSError as error:
        raise SettingsError(f"DROPLINE_GALLERY__TOKENS_FILE cannot be read: {error}") from None
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
