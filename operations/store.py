"""Cloud Storage, as far as submissions use it."""

from dataclasses import dataclass
from typing import Protocol

from dropline.contract import ObjectVersion, TaskRequest
from dropline.deadline import Deadline
from dropline.storage.bucket import NewObject, StoredObject


class Store(Protocol):
    """Cloud Storage; see `dropline.storage.bucket.Storage`."""

    def create(self, bucket: str, name: str, new: NewObject, deadline: Deadline) -> ObjectVersion | None: ...

    def describe(self, bucket: str, name: str) -> StoredObject: ...

    def open_session(
        self, bucket: str, name: str, content_type: str, size_bytes: int, task: TaskRequest | None
    ) -> str: ...


@dataclass(frozen=True, slots=True)
class UploadSession:
    """A resumable upload that its owner carries out."""

    #: Address for the bytes, by the protocol of Cloud Storage; secret. None if the object is there already.
    address: str | None
    #: `gs://` name of the object afterwards.
    uri: str
