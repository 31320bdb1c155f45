"""A gallery without tokens, on a loopback address."""

from collections.abc import Iterator

import httpx2
import pytest

from local_emulators.gcs import GcsServer
from tests.support.gallery_rig import GalleryRig, open_gallery, settings_for


@pytest.fixture
def gallery(database_url: str, redis_url: str, gcs_server: GcsServer) -> Iterator[GalleryRig]:
    """A running gallery."""
    with open_gallery(settings_for(database_url, redis_url, gcs_server), database_url) as rig:
        yield rig


@pytest.fixture
def client(gallery: GalleryRig) -> Iterator[httpx2.Client]:
    """A client of the gallery."""
    with gallery.client() as found:
        yield found
