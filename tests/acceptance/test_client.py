"""The Python client against the running stack: events, keys, large files, refusals."""

import asyncio
import io
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from PIL import Image

from dropline import AsyncClient, Client
from dropline.client import Caption, CaptionFailed, Change, Problem, Reset, Status, flows, uploads
from tests.acceptance.conftest import DEADLINE_S, LocalCloud
from tests.support.pages import ROOT

pytestmark = pytest.mark.acceptance

_SAMPLES = ROOT / "local_emulators" / "samples"
_STAR = (_SAMPLES / "purple-star.png").read_bytes()
#: Sees no change of a row: the stream begins with the state of all rows.
_BEFORE_ALL = "1:1:"


@pytest.fixture
def address(cloud: LocalCloud) -> str:
    """The address of the gallery."""
    return cloud.environment["DROPLINE_GALLERY_URL"]


@asynccontextmanager
async def _following(client: AsyncClient, after: str) -> AsyncIterator[AsyncGenerator[Change | Reset, None]]:
    events = client.events(after)
    try:
        yield events
    finally:
        await events.aclose()


async def _caption_of(events: AsyncIterator[Change | Reset], uri: str) -> Change:
    """The change by which the object gets its caption."""
    async with asyncio.timeout(DEADLINE_S):
        async for event in events:
            if isinstance(event, Change) and (event.caption.uri, event.caption.status) == (uri, Status.CAPTIONED):
                return event
    raise AssertionError("the stream ended")


def test_events_are_live_and_go_on_after_a_connection(address: str) -> None:
    """A change arrives while the stream is open; a change without a stream arrives after the id before it."""

    async def main() -> None:
        async with AsyncClient(address) as client:
            first = await client.caption(_STAR)
            async with _following(client, _BEFORE_ALL) as events:
                await _caption_of(events, first.uri)
                live = await client.submit(_STAR)
                seen = await _caption_of(events, live.uri)
                assert seen.caption.id == live.id
            missed = await client.caption(_STAR)
            async with _following(client, seen.event_id) as events:
                again = await _caption_of(events, missed.uri)
                assert str(again.caption) == str(missed) == "a purple star"

    asyncio.run(main())


def test_a_key_is_one_object(address: str, cloud: LocalCloud, tmp_path: Path) -> None:
    """A repetition with the key returns the first object, other bytes are refused; without a key there are two."""
    photo = tmp_path / "photo.png"
    shutil.copy(_SAMPLES / "purple-star.png", photo)
    with Client(address) as client:
        first = client.caption(photo, key="test-of-the-client")
        second = client.caption(photo.read_bytes(), key="test-of-the-client")
        assert (second.id, str(second)) == (first.id, str(first))
        with pytest.raises(Problem) as caught:
            client.submit(_SAMPLES / "purple-triangle.png", key="test-of-the-client")
        assert (caught.value.status, caught.value.code) == (422, "idempotency_key_reused")
        assert client.submit(photo).id != first.id
    assert cloud.bucket.blob(first.object_name).download_as_bytes() == _STAR


def test_a_large_file_arrives_whole(address: str, cloud: LocalCloud, monkeypatch: pytest.MonkeyPatch) -> None:
    """In three parts, straight to Cloud Storage."""
    monkeypatch.setattr(flows, "LARGE_BYTES", 256 * 1024)
    monkeypatch.setattr(uploads, "PART_BYTES", 256 * 1024)
    buffer = io.BytesIO()
    Image.frombytes("RGB", (500, 400), os.urandom(600_000)).save(buffer, "PNG")
    with Client(address) as client:
        found = client.caption(buffer.getvalue())
    assert cloud.bucket.blob(found.object_name).download_as_bytes() == buffer.getvalue()
    assert (found.width, found.height) == (500, 400)


def test_a_search_turns_its_pages(address: str) -> None:
    """More rows than a page has, each once, the newest first."""

    async def fill() -> list[Caption]:
        async with AsyncClient(address) as client:
            return await asyncio.gather(*(client.caption(_STAR) for _ in range(55)))

    made = {caption.id for caption in asyncio.run(fill())}
    with Client(address) as client:
        found = [caption.id for caption in client.search("purple star", status="captioned", task="caption")]
    assert len(found) == len(set(found)) > 50
    assert set(found[: len(made)]) == made


def test_a_refusal_and_a_failure_have_their_reasons(address: str) -> None:
    """A task that is none, an object that is none, and bytes that are no image."""
    with Client(address) as client:
        with pytest.raises(Problem, match="is not a task") as refused:
            client.caption(_STAR, task="guess")
        assert (refused.value.status, refused.value.code) == (422, "invalid_task")
        with pytest.raises(Problem) as missing:
            client.caption("gs://dropline-drops/no/such.png")
        assert (missing.value.status, missing.value.code) == (404, "object_missing")
        with pytest.raises(CaptionFailed) as failed:
            client.caption(b"words, and no image")
        assert failed.value.caption.error_code == "not_an_image"
