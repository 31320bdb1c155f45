"""Generated images, their upload, and the wait for their captions."""

import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from google.cloud.storage import Bucket
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from benchmarks.checks import ROW_TIMES_QUERY, RowTimes, RunInvalidError
from benchmarks.stack import BenchmarkStack
from db.listen import Listener
from dropline.contract import ObjectVersion, Status

#: The longest wait for a set of rows. The wait ends only in broken runs, so the limit is generous.
DEADLINE_S = 600.0
#: Concurrent uploads: the number of connections the client keeps.
_UPLOADS = 8
_FAILED_STATUSES = (Status.FAILED, Status.SUPERSEDED, Status.DELETED)


@dataclass(frozen=True)
class ImageFile:
    """One object to upload; no two have the same bytes."""

    name: str
    content_type: str
    data: bytes


def small_images(count: int, prefix: str = "small", first: int = 0) -> Iterator[ImageFile]:
    """PNGs of 64×48 in one colour each, with almost no work for the decoder; each has its name in a comment.

    `first` numbers the first colour.
    """
    for number in range(first, first + count):
        colour = ((number >> 16) & 255, (number >> 8) & 255, number & 255)
        image = Image.new("RGB", (64, 48), colour)
        name = f"{prefix}/{number:06}.png"
        comment = PngInfo()
        comment.add_text("Comment", name)
        yield ImageFile(name, "image/png", _encoded(image, "PNG", pnginfo=comment))


def photographs(count: int) -> Iterator[ImageFile]:
    """JPEGs of 1600×1200 with coarse and fine detail, like a photograph."""
    texture = _texture(1600, 1200)
    for number in range(count):
        data = _encoded(texture, "JPEG", quality=85, comment=f"photograph {number}")
        yield ImageFile(f"photographs/{number:06}.jpg", "image/jpeg", data)


def _texture(width: int, height: int) -> Image.Image:
    channels = []
    for divisor in (16, 32, 64):
        coarse = Image.effect_noise((width // divisor, height // divisor), 90).resize((width, height))
        channels.append(Image.blend(coarse, Image.effect_noise((width, height), 30), 0.25))
    return Image.merge("RGB", channels)


def _encoded(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def upload(bucket: Bucket, image: ImageFile) -> ObjectVersion:
    """Upload one image."""
    blob = bucket.blob(image.name)
    blob.upload_from_string(image.data, content_type=image.content_type)
    return ObjectVersion(str(bucket.name), image.name, int(blob.generation or 0))


def upload_all(stack: BenchmarkStack, images: Iterable[ImageFile]) -> int:
    """Upload all images, several at once; returns the number of images."""
    with stack.storage() as client, ThreadPoolExecutor(_UPLOADS) as threads:
        bucket = client.bucket(stack.bucket)
        return len(list(threads.map(lambda image: upload(bucket, image), images)))


def written_rows(listener: Listener, count: int) -> Iterator[int]:
    """The numbers 1 to `count`, each when one more row has its caption and its metadata is written.

    Raises:
        RunInvalidError: a row has another final status, or rows are missing after the deadline.
    """
    written: set[int] = set()
    for notice in listener.notices(DEADLINE_S):
        if notice.status in _FAILED_STATUSES:
            raise RunInvalidError(f"row {notice.id} of {notice.object_name} ended as {notice.status.value}")
        if notice.metadata_written and notice.id not in written:
            written.add(notice.id)
            yield len(written)
        if len(written) == count:
            return
    raise RunInvalidError(f"{len(written)} of {count} rows were done after {DEADLINE_S:g} s")


def wait_until_written(listener: Listener, count: int) -> None:
    """Wait for the end of `written_rows`.

    Raises:
        RunInvalidError: see `written_rows`.
    """
    for _ in written_rows(listener, count):
        pass


def row_times(stack: BenchmarkStack) -> Sequence[RowTimes]:
    """All rows."""
    with stack.database() as database:
        return [RowTimes(*row) for row in database.execute(ROW_TIMES_QUERY)]
