"""Cloud Storage for the worker: download one generation of an object, and write its caption to its metadata."""

from collections.abc import Mapping
from typing import Self

import urllib3
from google.api_core import exceptions as api
from google.auth.exceptions import DefaultCredentialsError
from google.cloud.storage import Blob, Client
from requests.adapters import HTTPAdapter

from dropline.contract import (
    METADATA_CAPTION,
    METADATA_MODEL,
    METADATA_PROMPT,
    ObjectVersion,
    SeenMetadata,
    WriteBack,
    WriteOutcome,
)
from dropline.errors import AccessDenied, ObjectGone, PreconditionLost, StorageUnavailable
from dropline.settings import MetadataSettings, Settings
from dropline.storage.client import make_client
from dropline.storage.encodings import BoundedBuffer, Content, decode_content
from dropline.storage.errors import worker_errors
from dropline.storage.metadata import FittedMetadata, fit_beside, fit_metadata
from dropline.storage.refusals import read_refusal

#: Seconds for connecting, and between received bytes.
TIMEOUT_S = (5.0, 30.0)
#: Connections kept open by one store; more threads than connections open new connections.
CONNECTIONS = 32


class ObjectStore:
    """The objects of all buckets that the credentials can reach. Threads may share a store; processes may not."""

    def __init__(
        self,
        client: Client,
        limits: MetadataSettings,
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> None:
        self._client = client
        self._limits = limits
        #: The library repeats no request: after a lost response, the repeated PATCH would fail with 412 as if
        #: another writer had changed the object.
        self._options = {"timeout": timeout_s, "retry": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def download(self, version: ObjectVersion, max_bytes: int) -> Content:
        """Download exactly this generation, verify the stored bytes by checksum, and undo the content encoding.

        Raises:
            ObjectGone: the object was overwritten or deleted.
            ImageRefused: `object_too_large`, after at most `max_bytes` and one block; `image_too_complex`.
            InvalidImage: the content encoding cannot be undone.
            AccessDenied, StorageUnavailable, PermanentError.
        """
        blob = self._blob(version)
        body = BoundedBuffer(version, max_bytes)
        with worker_errors(version, "storage.objects.get"):
            blob.download_to_file(body, raw_download=True, checksum="auto", **self._options)
        return decode_content(body.getvalue(), blob.content_encoding, version, max_bytes)

    def exists(self, version: ObjectVersion, timeout_s: tuple[float, float]) -> bool:
        """Whether Cloud Storage has exactly this generation, as a noncurrent one too.

        Args:
            version: of the object.
            timeout_s: for connecting, and for the answer.

        Raises:
            AccessDenied, StorageUnavailable, PermanentError.
        """
        try:
            with worker_errors(version, "storage.objects.get"):
                self._blob(version).reload(timeout=timeout_s, retry=None)
        except ObjectGone:
            return False
        return True

    def live_generation(self, version: ObjectVersion) -> int | None:
        """Return the live generation of the object name, or None if the object was deleted.

        Raises:
            StorageUnavailable: the bucket itself is missing, which is no deletion of the object; or no answer.
            AccessDenied, PermanentError.
        """
        blob = self._client.bucket(version.bucket).blob(version.name)
        try:
            with worker_errors(version, "storage.objects.get"):
                blob.reload(**self._options)
        except ObjectGone:
            self._require_bucket(version)
            return None
        return int(blob.generation)

    def check_gone(self, version: ObjectVersion) -> int | None:
        """Return the live generation after a 404 for `version`; None if the object was deleted.

        Raises:
            StorageUnavailable: `version` is the live generation, or the bucket is missing; or no answer.
            AccessDenied, PermanentError.
        """
        live = self.live_generation(version)
        if live == version.generation:
            raise StorageUnavailable(
                f"Cloud Storage answered that {version.uri} is not there, and names this generation as the live "
                "one; it is tried again"
            )
        return live

    def _require_bucket(self, version: ObjectVersion) -> None:
        """Tell a missing bucket from a missing object: both answer 404 with the same words."""
        try:
            with worker_errors(version, "storage.objects.list"):
                list(self._client.list_blobs(version.bucket, max_results=1, fields="prefixes", **self._options))
        except ObjectGone as error:
            raise StorageUnavailable(
                f"the bucket gs://{version.bucket} is not there; create it again, or correct "
                "DROPLINE_EVENTS__BUCKETS and STORAGE_EMULATOR_HOST; the row waits until then"
            ) from error
        except AccessDenied:
            # A bucket that is not there answers 404 without any role.
            return

    def write_metadata(self, write_back: WriteBack) -> WriteOutcome:
        """Copy the caption to the metadata of exactly this generation; safe to repeat after any transient error.

        Sets only `caption`, `caption-prompt` and `caption-model`, under preconditions for generation and
        metageneration. With the metadata of the object's event, the PATCH is the only request; where they have
        changed since, and at a second try, the metadata are read first. Then no PATCH is sent if the keys already
        have these values, so a lost response is harmless.
        `dropline.storage.metadata.fit_metadata` handles captions that do not fit or that a person wrote.

        Raises:
            ObjectGone: the object was overwritten or deleted.
            PreconditionLost: another writer changed the metadata between read and PATCH.
            AccessDenied, StorageUnavailable, PermanentError.
        """
        try:
            return self._write_metadata(write_back)
        except ObjectGone:
            self.check_gone(write_back.version)
            raise

    def _write_metadata(self, write_back: WriteBack) -> WriteOutcome:
        version = write_back.version
        ours = {
            METADATA_CAPTION: write_back.caption,
            METADATA_PROMPT: write_back.task,
            METADATA_MODEL: write_back.model,
        }
        if write_back.metadata is not None:
            outcome = self._write_unread(version, ours, write_back.metadata)
            if outcome is not None:
                return outcome
        blob, fitted = self._read(write_back, ours)
        if _holds(blob, fitted):
            return fitted.outcome
        try:
            return self._patch(version, blob.metageneration, fitted)
        except api.PreconditionFailed:
            return self._resolve_precondition_failure(write_back, ours)

    def _write_unread(
        self, version: ObjectVersion, ours: Mapping[str, str], seen: SeenMetadata
    ) -> WriteOutcome | None:
        """Write beside the metadata of the event; None, without an effect, where they must be read."""
        fitted = fit_beside(seen.size_bytes, ours, self._limits)
        if not fitted.values:
            return None
        try:
            return self._patch(version, seen.metageneration, fitted)
        except api.PreconditionFailed:
            return None

    def _resolve_precondition_failure(self, write_back: WriteBack, ours: Mapping[str, str]) -> WriteOutcome:
        """Handle a 412: an earlier PATCH of this worker whose response was lost, or another writer's change."""
        version = write_back.version
        if self.live_generation(version) != version.generation:
            raise ObjectGone(f"{version.uri} was overwritten or deleted before its metadata was written")
        blob, fitted = self._read(write_back, ours)
        if _holds(blob, fitted):
            return fitted.outcome
        raise PreconditionLost(
            f"another writer changed the metadata of {version.uri} meanwhile; the write-back is retried"
        )

    def _read(self, write_back: WriteBack, ours: Mapping[str, str]) -> tuple[Blob, FittedMetadata]:
        blob = self._blob(write_back.version)
        with worker_errors(write_back.version, "storage.objects.get"):
            blob.reload(**self._options)
        existing = blob.metadata or {}
        return blob, fit_metadata(existing, ours, self._limits, is_reverted=write_back.is_reverted)

    def _patch(self, version: ObjectVersion, metageneration: int, fitted: FittedMetadata) -> WriteOutcome:
        """Set the keys if the metadata are those of `metageneration`; may raise PreconditionFailed."""
        # A new Blob: the PATCH must contain only the keys of Dropline.
        blob = self._blob(version)
        blob.metadata = fitted.values
        try:
            with worker_errors(
                version, "storage.objects.update", handled=(api.PreconditionFailed, api.BadRequest)
            ):
                blob.patch(
                    if_generation_match=version.generation,
                    if_metageneration_match=metageneration,
                    **self._options,
                )
        except api.BadRequest as error:
            return WriteOutcome(
                written=False,
                code="metadata_left_out",
                note=f"Cloud Storage refused the metadata: {read_refusal(error).text}; the row has the caption",
            )
        return fitted.outcome

    def _blob(self, version: ObjectVersion) -> Blob:
        return self._client.bucket(version.bucket).blob(version.name, generation=version.generation)


def make_store(settings: Settings, timeout_s: tuple[float, float] = TIMEOUT_S) -> ObjectStore:
    """Return a store with the environment's credentials, or for the emulator if the settings name an emulator.

    Call in the process that uses the store: connections do not survive a fork.

    Raises:
        AccessDenied: no credentials were found.
    """
    # One retry of safe requests on connection errors: the server may have closed an idle connection.
    retry = urllib3.Retry(total=1, status=0, other=0, allowed_methods={"GET"})
    adapter = HTTPAdapter(pool_maxsize=CONNECTIONS, max_retries=retry)
    try:
        client = make_client(settings.project, settings.storage_emulator_host, adapter)
    except DefaultCredentialsError as error:
        raise AccessDenied(
            "there are no Google credentials: run as a service account, set GOOGLE_APPLICATION_CREDENTIALS, "
            f"or set STORAGE_EMULATOR_HOST for a local bucket ({error})"
        ) from error
    return ObjectStore(client, settings.metadata, timeout_s)


def _holds(blob: Blob, fitted: FittedMetadata) -> bool:
    return fitted.values.items() <= (blob.metadata or {}).items()
