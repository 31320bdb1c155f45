"""Cloud Storage for the command line: uploads, and the live version of an object."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from dropline.contract import METADATA_ADDRESS, METADATA_TASK, ObjectFacts, ObjectVersion, TaskRequest
from dropline.deadline import Deadline
from dropline.errors import AccessDenied, ClientError, StorageUnavailable
from dropline.object_metadata import own_caption
from dropline.selection import task_of_metadata
from dropline.settings import Settings
from dropline.storage.uploads import Upload, Uploaded
from dropline.task_list import written

if TYPE_CHECKING:
    from google.cloud.storage import Client

#: Seconds in which the library repeats one request. Short with an emulator, which does not recover from errors.
_RETRY_S = 30.0
_RETRY_WITH_EMULATOR_S = 2.0
#: Seconds for the facts of an object.
_FACTS_TIMEOUT_S = 5.0
#: Seconds for connecting, and between the bytes of one request of an upload.
_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S = 5.0, 30.0


@dataclass(frozen=True, slots=True)
class StoredObject:
    """The live version of an object."""

    version: ObjectVersion
    facts: ObjectFacts
    #: Unparsed `caption-task` of the metadata; None without one.
    task: str | None
    #: Of the metadata, as in `NewObject`.
    address_digest: str | None = None


@dataclass(frozen=True, slots=True)
class NewObject:
    """The content of an object to be created."""

    #: At its beginning, and seekable.
    content: BinaryIO
    size_bytes: int
    content_type: str
    task: TaskRequest | None
    #: SHA-256 of the address that the image was fetched from, in hexadecimal digits; None without one.
    address_digest: str | None = None

    @property
    def metadata(self) -> dict[str, str] | None:
        """The custom metadata of the object."""
        given = {METADATA_TASK: self.task, METADATA_ADDRESS: self.address_digest}
        return {key: str(value) for key, value in given.items() if value is not None} or None


class Storage:
    """The buckets that the user's credentials, or an emulator, can reach. Threads may share it."""

    def __init__(self, client: "Client", *, local: bool = False, retry_s: float = _RETRY_S) -> None:
        self._client = client
        self._local = local
        self._retry_s = min(retry_s, _RETRY_WITH_EMULATOR_S) if local else retry_s

    @classmethod
    def connect(cls, settings: Settings, *, retry_s: float = _RETRY_S) -> Self:
        """Connect with the user's credentials, or to the emulator if the settings name an emulator.

        Args:
            settings: with the project, and the emulator if there is one.
            retry_s: seconds in which one request is repeated.

        Raises:
            ClientError: google-cloud-storage is not installed.
            AccessDenied: no credentials were found.
            StorageUnavailable: the client certificate cannot be used.
        """
        try:
            from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

            from dropline.storage.client import make_client
        except ImportError as error:
            raise ClientError("Cloud Storage needs: pip install 'dropline[cli]'") from error
        if settings.storage_emulator_host:
            return cls.on_emulator(settings.storage_emulator_host, settings.project)
        try:
            return cls(make_client(settings.project, emulator=""), retry_s=retry_s)
        except (DefaultCredentialsError, OSError) as error:
            raise AccessDenied(
                "there are no Google credentials: run `gcloud auth application-default login`, or for the local "
                "stack `source .local/env`"
            ) from error
        except GoogleAuthError as error:
            raise StorageUnavailable(f"cannot use the client certificate for Cloud Storage: {error}") from error

    @classmethod
    def on_emulator(cls, address: str, project: str) -> Self:
        """Connect to an emulator at `host:port` or a URL, without credentials."""
        from dropline.storage.client import make_client

        return cls(make_client(project or "dropline", address), local=True)

    def upload(self, bucket: str, upload: Upload, tasks: Sequence[TaskRequest] = ()) -> Uploaded:
        """Upload one file, with the tasks as metadata.

        Raises:
            OSError: the file cannot be read.
            ClientError: the bucket does not exist, or does not allow the object name.
            AccessDenied, StorageUnavailable.
        """
        uri = f"gs://{bucket}/{upload.name}"
        with self._named_errors(uri, "storage.objects.create", missing=f"gs://{bucket}"):
            blob = self._client.bucket(bucket).blob(upload.name)
            if tasks:
                blob.metadata = {METADATA_TASK: written(tasks)}
            blob.upload_from_filename(str(upload.path), content_type=upload.content_type, retry=self._retry())
        version = ObjectVersion(bucket, upload.name, int(blob.generation))
        return Uploaded(upload, version, datetime.now(UTC))

    def create(self, bucket: str, name: str, new: NewObject, deadline: Deadline) -> ObjectVersion | None:
        """Create an object, with the task as metadata; None if an object of this name is there already.

        Safe to repeat: a repetition after a lost answer finds the object, and None is returned.

        Raises:
            ObjectMissing: the bucket does not exist.
            ClientError: the bucket does not allow the object name.
            AccessDenied, StorageUnavailable.
        """
        from google.api_core.exceptions import PreconditionFailed

        uri = f"gs://{bucket}/{name}"
        with self._named_errors(uri, "storage.objects.create", missing=f"gs://{bucket}"):
            blob = self._client.bucket(bucket).blob(name)
            blob.metadata = new.metadata
            try:
                blob.upload_from_file(
                    new.content,
                    rewind=True,
                    size=new.size_bytes,
                    content_type=new.content_type,
                    if_generation_match=0,
                    retry=self._retry(deadline),
                    timeout=(_CONNECT_TIMEOUT_S, _ANSWER_TIMEOUT_S),
                )
            except PreconditionFailed:
                return None
        return ObjectVersion(bucket, name, int(blob.generation))

    def open_session(
        self, bucket: str, name: str, content_type: str, size_bytes: int, task: TaskRequest | None
    ) -> str:
        """Begin a resumable upload of exactly `size_bytes`; the address for the bytes, which is a secret.

        The upload fails if an object of this name is there.

        Raises:
            ObjectMissing: the bucket does not exist.
            ClientError: the bucket does not allow the object name.
            AccessDenied, StorageUnavailable.
        """
        with self._named_errors(f"gs://{bucket}/{name}", "storage.objects.create", missing=f"gs://{bucket}"):
            blob = self._client.bucket(bucket).blob(name)
            if task is not None:
                blob.metadata = {METADATA_TASK: str(task)}
            address: str = blob.create_resumable_upload_session(
                content_type=content_type,
                size=size_bytes,
                if_generation_match=0,
                retry=self._retry(),
                timeout=(_CONNECT_TIMEOUT_S, _FACTS_TIMEOUT_S),
            )
        return address

    def describe(self, bucket: str, name: str) -> StoredObject:
        """The live version of an object, with its facts and its own task.

        Raises:
            ObjectMissing: the object does not exist.
            AccessDenied, StorageUnavailable.
        """
        uri = f"gs://{bucket}/{name}"
        blob = self._client.bucket(bucket).blob(name)
        with self._named_errors(uri, "storage.objects.get", missing=uri):
            blob.reload(retry=self._retry(), timeout=(_CONNECT_TIMEOUT_S, _FACTS_TIMEOUT_S))
        metadata = blob.metadata or {}
        facts = ObjectFacts(
            blob.content_type or "", blob.size, blob.md5_hash, blob.crc32c, own_caption=own_caption(metadata)
        )
        version = ObjectVersion(bucket, name, int(blob.generation))
        return StoredObject(version, facts, task_of_metadata(metadata), metadata.get(METADATA_ADDRESS))

    def live_version(self, bucket: str, name: str) -> ObjectVersion:
        """Return the live version of an object.

        Raises:
            ClientError: the object does not exist.
            AccessDenied, StorageUnavailable.
        """
        uri = f"gs://{bucket}/{name}"
        with self._named_errors(uri, "storage.objects.get", missing=uri):
            blob = self._client.bucket(bucket).blob(name)
            blob.reload(retry=self._retry())
        return ObjectVersion(bucket, name, int(blob.generation))

    def facts_of(self, version: ObjectVersion) -> tuple[ObjectFacts, datetime]:
        """Content type and size of an object version, and its time of creation; one request without a retry.

        Raises:
            ClientError: the version does not exist.
            AccessDenied, StorageUnavailable.
        """
        blob = self._client.bucket(version.bucket).blob(version.name, generation=version.generation)
        with self._named_errors(version.uri, "storage.objects.get", missing=version.uri):
            blob.reload(retry=None, timeout=_FACTS_TIMEOUT_S)
        return ObjectFacts(blob.content_type or "", blob.size), blob.time_created

    def _retry(self, deadline: Deadline | None = None) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        retry_s = self._retry_s if deadline is None else min(self._retry_s, deadline.remaining_s())
        return DEFAULT_RETRY.with_timeout(retry_s)

    def blob(self, bucket: str, name: str) -> Any:
        """An object as the library has it, without a request."""
        return self._client.bucket(bucket).blob(name)

    @contextlib.contextmanager
    def named_errors(self, uri: str, permission: str, missing: str) -> Iterator[None]:
        """Name the errors of requests for an object; `missing` is the URI of what a 404 is about."""
        with self._named_errors(uri, permission, missing=missing):
            yield

    @contextlib.contextmanager
    def _named_errors(self, uri: str, permission: str, *, missing: str) -> Iterator[None]:
        from dropline.storage.errors import command_errors

        hint = "; is `dropline up` running?" if self._local else ""
        with command_errors(uri, permission, missing=missing, hint=hint):
            yield
