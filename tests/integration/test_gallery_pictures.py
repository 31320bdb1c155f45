"""Images of the gallery: by generation, harmless whatever the bytes are, and never of an object without a row."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from db.session import Database
from dropline import caption_id
from dropline.contract import ObjectVersion
from dropline.errors import AccessDenied, DroplineError, StorageUnavailable
from dropline.images.placeholders import BROKEN, GONE, placeholder
from tests.support.image_files import BLUE, RED, SVG, encode
from tests.support.page_rig import Objects, page_client
from tests.support.rows import G1, G2, TASK, caption_object, drop, record, take

_HTML = b"<!doctype html><script>alert(1)</script>"


@pytest.fixture
def objects() -> Objects:
    """The bucket."""
    return Objects()


@pytest.fixture
def client(database: Database, tmp_path: Path, objects: Objects) -> Iterator[TestClient]:
    """A client of a gallery that is open to the machine."""
    with page_client(database, tmp_path, objects) as found:
        yield found


def address_of(version: ObjectVersion, rest: str) -> str:
    """An address below the page of a row."""
    return f"/pictures/{caption_id.encode(version, TASK)}/{rest}"


def plain(colour: tuple[int, int, int]) -> bytes:
    """A PNG of one colour."""
    return encode(Image.new("RGB", (60, 40), colour), "PNG")


def test_each_generation_has_its_own_image(client: TestClient, database: Database, objects: Objects) -> None:
    """Copies stay in browsers' caches: an overwritten object has a new address."""
    caption_object(database, G1)
    with database.transaction() as connection:
        record(connection, take(connection, drop(connection, G2)))
    objects.contents = {G1: plain(RED), G2: plain(BLUE)}
    seen = []
    for version in (G1, G2):
        answer = client.get(address_of(version, "thumbnail.webp"))
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/webp")
        assert answer.headers["cache-control"] == "private, max-age=31536000, immutable"
        assert "sandbox" in answer.headers["content-security-policy"]
        pixel = Image.open(io.BytesIO(answer.content)).convert("RGB").getpixel((30, 20))
        assert isinstance(pixel, tuple)
        seen.append("red" if pixel[0] > pixel[2] else "blue")
    assert seen == ["red", "blue"]


@pytest.mark.parametrize("body", [_HTML, SVG, b"%PDF-1.7", b""])
@pytest.mark.parametrize("rest", ["thumbnail.webp", "view.webp"])
def test_what_is_no_image_is_shown_as_a_placeholder(
    client: TestClient, database: Database, objects: Objects, body: bytes, rest: str
) -> None:
    """No byte of the object is served."""
    caption_object(database, G1)
    objects.contents[G1] = body or StorageUnavailable("503")
    answer = client.get(address_of(G1, rest))
    assert answer.status_code == (415 if body else 503)
    assert answer.headers["content-type"] == "image/webp"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.content == placeholder(BROKEN, "No picture")


@pytest.mark.parametrize("body", [_HTML, SVG, plain(RED)])
def test_the_original_is_a_download_of_no_type(
    client: TestClient, database: Database, objects: Objects, body: bytes
) -> None:
    """A browser saves the bytes, and runs none."""
    version = ObjectVersion("drops", 'a/b";\r\nx: y <script>.html'.replace("\r\n", ""), 7)
    caption_object(database, version)
    objects.contents[version] = body
    answer = client.get(address_of(version, "original"))
    assert answer.content == body
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    disposition = answer.headers["content-disposition"]
    assert disposition.startswith("attachment; filename*=UTF-8''")
    assert not set('";<> \r\n') & set(disposition.partition("''")[2])


def test_an_object_that_is_gone_has_a_placeholder(client: TestClient, database: Database) -> None:
    """The row is there, and the object is not."""
    caption_object(database, G1)
    answer = client.get(address_of(G1, "thumbnail.webp"))
    assert answer.status_code == 404
    assert answer.content == placeholder(GONE, "The object is gone")


def test_an_object_without_a_row_is_out_of_reach(client: TestClient, objects: Objects) -> None:
    """An id can be made by anyone, for any object of any bucket that the service can read."""
    secret = ObjectVersion("another-bucket", "secret.png", 1)
    objects.contents[secret] = plain(RED)
    for rest in ("thumbnail.webp", "view.webp", "original"):
        assert client.get(address_of(secret, rest)).status_code == 404


@pytest.mark.parametrize("error", [StorageUnavailable("503"), AccessDenied("no right")])
def test_an_outage_is_not_kept(
    client: TestClient, database: Database, objects: Objects, error: DroplineError
) -> None:
    """Neither by browsers nor by the service."""
    caption_object(database, G1)
    objects.contents[G1] = error
    answer = client.get(address_of(G1, "view.webp"))
    assert (answer.status_code, answer.headers["cache-control"]) == (503, "no-store")
    objects.contents[G1] = plain(RED)
    assert client.get(address_of(G1, "view.webp")).status_code == 200
