"""The gallery as a process of its own, set up by the environment alone."""

import json
import sys
from dataclasses import dataclass
from typing import Any

import httpx2

from benchmarks.cpu import resident_bytes
from dropline.settings import Settings
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Service, Supervisor

#: Longer than any wait of a test: test machines are shared and slow.
DEADLINE_S = 120


@dataclass(frozen=True)
class GalleryProcess:
    """A running gallery."""

    service: Service
    settings: Settings

    @property
    def url(self) -> str:
        """The address, without a path."""
        ready = next(line for line in self.service.last_lines(2000) if "gallery_ready" in line)
        return f"http://127.0.0.1:{json.loads(ready)['port']}"

    def client(self, **options: Any) -> httpx2.Client:
        """A client of the gallery."""
        return httpx2.Client(base_url=self.url, timeout=DEADLINE_S, **options)

    def resident_bytes(self) -> int:
        """Memory of the process (Linux)."""
        return resident_bytes(self.service.pid)


def command_of(settings: Settings, **variables: str) -> Command:
    """The command of a gallery with these settings, as far as `gallery_rig.settings_for` makes them."""
    gallery = {
        f"DROPLINE_GALLERY__{name.upper()}": json.dumps(value) if isinstance(value, list | tuple) else str(value)
        for name, value in settings.gallery.model_dump(exclude_unset=True, exclude={"database_url"}).items()
    }
    assert settings.database_url
    environment = {
        "PYTHONPATH": python_path(),
        "STORAGE_EMULATOR_HOST": settings.storage_emulator_host,
        "GOOGLE_CLOUD_PROJECT": settings.project,
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "DROPLINE_BUCKET": settings.bucket,
        "DROPLINE_BROKER__URL": settings.broker.url.get_secret_value(),
        "DROPLINE_EVENTS__BUCKETS": json.dumps(settings.events.buckets),
        "DROPLINE_GALLERY__DATABASE_URL": settings.gallery.database_url.get_secret_value(),
        **gallery,
    }
    return Command(
        name="gallery",
        argv=(sys.executable, "-m", "gallery"),
        ready_lines=("gallery_ready",),
        environment=process_environment(**environment, **variables),
    )


def start_gallery(supervisor: Supervisor, settings: Settings, **variables: str) -> GalleryProcess:
    """Start a gallery; returns when it is ready."""
    return GalleryProcess(supervisor.start(command_of(settings, **variables)), settings)
