"""Exports in Cloud Storage: one large object by a resumable upload, and texts beside images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from dropline.settings import Settings
from dropline.storage.bucket import Storage

#: Bytes of one request of a resumable upload; a multiple of 256 KiB.
_CHUNK_BYTES = 8 * 2**20
#: Of the metadata of a text: an export may replace it.
_MARK = {"dropline-export": "text"}


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
        with (
            self._storage.named_errors(f"gs://{bucket}/{name}", "storage.objects.create", f"gs://{bucket}"),
            self._storage.blob(bucket, name).open(
                "wb", chunk_size=_CHUNK_BYTES, content_type=content_type, ignore_flush=True
            ) as out,
        ):
            yield cast("BinaryIO", out)

    def write_text(self, bucket: str, name: str, text: str) -> bool:
        """Write a text, or replace the text of an earlier export; False if another program's object is there.

        Raises:
            ObjectMissing: the bucket does not exist.
            AccessDenied, StorageUnavailable.
        """
        from google.api_core.exceptions import PreconditionFailed

        with self._storage.named_errors(f"gs://{bucket}/{name}", "storage.objects.create", f"gs://{bucket}"):
            try:
                self._upload(bucket, name, text, 0)
            except PreconditionFailed:
                found = self._storage.blob(bucket, name)
                found.reload()
                if not _MARK.items() <= (found.metadata or {}).items():
                    return False
                self._upload(bucket, name, text, int(found.generation))
        return True

    def _upload(self, bucket: str, name: str, text: str, generation: int) -> None:
        blob = self._storage.blob(bucket, name)
        blob.metadata = dict(_MARK)
        blob.upload_from_string(
            text.encode(), content_type="text/plain; charset=utf-8", if_generation_match=generation
        )
