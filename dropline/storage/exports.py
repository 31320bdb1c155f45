"""Exports in Cloud Storage: one large object by a resumable upload, and texts beside images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from dropline.settings import Settings
from dropline.storage.bucket import Storage

#: Bytes of one request of a resumable upload; a multiple of 256 KiB.
_CHUNK_BYTES = 8 * 2**20
#: Of the metadata of a text: the image that it is of, as `gs://…`. An export of this image may replace the text.
_MARK = "dropline-export"
#: Attempts to replace a text that other exports replace at the same time.
_MOST_ATTEMPTS = 5


class ExportStorage:
    """The objects of exports."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    @classmethod
    def connect(cls, settings: Settings) -> "ExportStorage":
        """Connect as `Storage.connect` does, with its errors."""
        return cls(Storage.connect(settings))

    @contextmanager
    def writing(self, bucket: str, name: str, content_type: str) -> Iterator[BinaryIO]:
        """A stream into an object, which appears at the end of the block; after an error there is no object.

        Raises:
            ObjectMissing: the bucket does not exist.
            AccessDenied, StorageUnavailable.
        """
        writer = self._storage.blob(bucket, name).open(
            "wb", chunk_size=_CHUNK_BYTES, content_type=content_type, ignore_flush=True
        )
        try:
            with (
                self._storage.named_errors(f"gs://{bucket}/{name}", "storage.objects.create", f"gs://{bucket}"),
                writer as out,
            ):
                yield cast("BinaryIO", out)
        finally:
            # After an error at its end, the garbage collector would end the writer once more: the object would
            # appear after the error.
            writer._buffer.close()  # noqa: SLF001 - `close` sends the bytes again, and `terminate` may fail

    def write_text(self, bucket: str, name: str, text: str, image: str) -> str:
        """Write the text of an image, or replace that of an earlier export.

        Args:
            bucket: of the text.
            name: of the text.
            text: its content.
            image: `gs://…` of the image, without a generation; another image's text is never replaced.

        Returns:
            Empty, or the reason why no text is written.

        Raises:
            ObjectMissing: the bucket does not exist.
            AccessDenied, StorageUnavailable.
        """
        from google.api_core.exceptions import PreconditionFailed

        generation = 0
        with self._storage.named_errors(f"gs://{bucket}/{name}", "storage.objects.create", f"gs://{bucket}"):
            for _ in range(_MOST_ATTEMPTS):
                try:
                    self._upload(bucket, name, text, image, generation)
                except PreconditionFailed:
                    generation, owner = self._found(bucket, name)
                else:
                    return ""
                if generation and owner != image:
                    return f"the object {name} is the text of {owner}" if owner else _foreign(name)
        return f"other exports replace the object {name} all the time"

    def _found(self, bucket: str, name: str) -> tuple[int, str]:
        """The generation of a text, and the image that it is of; 0 without an object."""
        from google.api_core.exceptions import NotFound

        found = self._storage.blob(bucket, name)
        try:
            found.reload()
        except NotFound:
            return 0, ""
        return int(found.generation), (found.metadata or {}).get(_MARK, "")

    def _upload(self, bucket: str, name: str, text: str, image: str, generation: int) -> None:
        blob = self._storage.blob(bucket, name)
        blob.metadata = {_MARK: image}
        blob.upload_from_string(
            text.encode(), content_type="text/plain; charset=utf-8", if_generation_match=generation
        )


def _foreign(name: str) -> str:
    return f"the object {name} is there, and no export wrote it"
