"""Copies of images: one decoding per copy, errors remembered, and no caller cancels the copy of another."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import cast

import numpy as np
import pytest

from dropline.contract import Dimensions, ObjectVersion
from dropline.errors import AccessDenied, DroplineError, InvalidImage, ObjectGone, StorageUnavailable
from dropline.images.decoded import Decoded
from dropline.images.decoder import DecoderProcess
from dropline.images.renditions import Rendition
from gallery.copies import Copies
from gallery.disk_cache import DiskCache

V1 = ObjectVersion("drops", "a.png", 1)
V2 = ObjectVersion("drops", "a.png", 2)
THUMBNAIL, VIEW = Rendition.THUMBNAIL, Rendition.VIEW


@dataclass
class Place:
    """A bucket and a decoder in memory."""

    error: DroplineError | None = None
    #: Requested originals, in order.
    downloads: list[str] = field(default_factory=list)
    #: Versions that were looked for.
    questions: list[str] = field(default_factory=list)
    closed: int = 0
    #: Set by the first download.
    started: Event = field(default_factory=Event)
    #: Downloads wait for this.
    gate: Event = field(default_factory=Event)

    def download(self, version: ObjectVersion) -> bytes:
        """The bytes of an object version, or the error."""
        self.downloads.append(version.uri)
        self.started.set()
        self.gate.wait(60)
        if self.error:
            raise self.error
        return b"bytes"

    def exists(self, version: ObjectVersion) -> bool:
        """Whether a download would succeed; raises any other error than that of an object that is gone."""
        self.questions.append(version.uri)
        if self.error and not isinstance(self.error, ObjectGone):
            raise self.error
        return self.error is None

    def decode(self, _data: bytes, side_px: int) -> Decoded:
        """A grey image."""
        return Decoded(np.full((side_px, side_px, 3), 99, np.uint8), Dimensions(40, 30))

    def close(self) -> None:
        """Count the ends of the decoder."""
        self.closed += 1


@pytest.fixture
def place() -> Place:
    """A bucket whose downloads do not wait."""
    made = Place()
    made.gate.set()
    return made


def run(place: Place, directory: Path, use: Callable[[Copies], Awaitable[None]]) -> None:
    """Run `use` with copies of the place."""

    async def main() -> None:
        decoder = cast("DecoderProcess", place)
        with closing(Copies(place, DiskCache(directory, 1_000_000), [decoder])) as copies:
            await use(copies)

    asyncio.run(main())


def test_a_copy_is_made_once(place: Place, tmp_path: Path) -> None:
    """The second view, and the views of the next process, read the disk."""

    async def view(copies: Copies) -> None:
        first = await copies.get(V1, THUMBNAIL)
        assert first[:4] == b"RIFF"
        assert await copies.get(V1, THUMBNAIL) == first

    run(place, tmp_path, view)
    run(place, tmp_path, view)
    assert place.downloads == [V1.uri]
    assert place.closed == 2


def test_each_generation_and_each_rendition_has_its_own_copy(place: Place, tmp_path: Path) -> None:
    """An overwritten object never shows the image of another generation."""

    async def view(copies: Copies) -> None:
        for version, rendition in ((V1, THUMBNAIL), (V2, THUMBNAIL), (V1, VIEW)):
            await copies.get(version, rendition)

    run(place, tmp_path, view)
    assert place.downloads == [V1.uri, V2.uri, V1.uri]


def test_simultaneous_views_share_one_decoding(place: Place, tmp_path: Path) -> None:
    """A caller that goes away, as browsers do while a person scrolls, leaves the others their copy."""
    place.gate.clear()

    async def view(copies: Copies) -> None:
        busy = asyncio.create_task(copies.get(V2, THUMBNAIL))
        await asyncio.to_thread(place.started.wait, 60)
        calls = [asyncio.create_task(copies.get(V1, THUMBNAIL))]
        # Behind the other image: a copy that waits for its turn could be cancelled.
        while len(copies._running) < 2:  # noqa: ASYNC110 - no event of the product
            await asyncio.sleep(0.001)
        calls += [asyncio.create_task(copies.get(V1, THUMBNAIL)) for _ in range(4)]
        calls[0].cancel()
        place.gate.set()
        gone, *results = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(gone, asyncio.CancelledError)
        assert results == [await copies.get(V1, THUMBNAIL)] * 4
        await busy

    run(place, tmp_path, view)
    assert place.downloads == [V2.uri, V1.uri]


@pytest.mark.parametrize("error", [ObjectGone("gone"), InvalidImage("no image", code="not_an_image")])
def test_a_lasting_error_costs_one_attempt(place: Place, tmp_path: Path, error: DroplineError) -> None:
    """A hostile image is decoded once, however often its page is viewed, and in each rendition."""
    place.error = error

    async def view(copies: Copies) -> None:
        for rendition in (THUMBNAIL, THUMBNAIL, VIEW):
            with pytest.raises(type(error)) as caught:
                await copies.get(V1, rendition)
            assert (caught.value.code, str(caught.value)) == (error.code, str(error))

    run(place, tmp_path, view)
    assert place.downloads == [V1.uri]


@pytest.mark.parametrize(
    ("error", "is_gone"),
    [
        (None, False),
        (ObjectGone("gone"), True),
        (StorageUnavailable("503"), False),
        (AccessDenied("no right"), False),
    ],
)
def test_an_object_is_gone_by_an_answer_alone(
    place: Place, tmp_path: Path, error: DroplineError | None, is_gone: bool
) -> None:
    """An outage says nothing about the object; a download that found nothing is not asked again."""
    place.error = error

    async def view(copies: Copies) -> None:
        assert copies.is_gone(V1) is is_gone
        assert not copies.is_cached(V1, THUMBNAIL)
        with suppress(DroplineError):
            await copies.get(V1, THUMBNAIL)
        assert copies.is_gone(V1) is is_gone
        assert copies.is_cached(V1, THUMBNAIL) is (error is None)

    run(place, tmp_path, view)
    assert place.questions == [V1.uri] * (1 if is_gone else 2)


@pytest.mark.parametrize("error", [StorageUnavailable("503"), AccessDenied("no right")])
def test_other_errors_end_when_their_cause_ends(place: Place, tmp_path: Path, error: DroplineError) -> None:
    """An outage, or a missing right that an operator grants."""

    async def view(copies: Copies) -> None:
        place.error = error
        with pytest.raises(type(error)):
            await copies.get(V1, THUMBNAIL)
        place.error = None
        assert await copies.get(V1, THUMBNAIL)

    run(place, tmp_path, view)
