"""Cloud Storage: read one generation of an object, and write its caption back without harming anybody's keys."""

import contextlib
import io
import zlib
from collections.abc import Iterator, Mapping
from typing import Self

import google.auth
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.auth.credentials import AnonymousCredentials, Credentials
from google.auth.transport.requests import AuthorizedSession
from google.cloud.storage import Blob, Client
from google.cloud.storage.exceptions import DataCorruption
from requests.adapters import HTTPAdapter

from dropline.contract import METADATA_CAPTION, METADATA_MODEL, METADATA_TASK, ObjectVersion
from dropline.errors import (
    AccessDenied,
    ImageRefused,
    ObjectGone,
    PermanentError,
    PreconditionLost,
    StorageUnavailable,
)
from dropline.settings import MetadataSettings, Settings
from dropline.storage.metadata import Fitted, WriteOutcome, fit_metadata

__all__ = ["ObjectStore", "WriteOutcome", "make_store"]

#: Seconds for connecting, and for the longest silence of a connection.
TIMEOUT_S = (5.0, 30.0)
#: Connections kept by one store: as many threads may share it without opening new ones.
POOL_SIZE = 32
_SCOPE = "https://www.googleapis.com/auth/devstorage.read_write"
_GZIP = 16 + zlib.MAX_WBITS
_UNREACHABLE = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
    auth.TransportError,
    auth.RefreshError,
    api.RetryError,
)
_BUSY = (api.TooManyRequests, api.ServerError)
_BUSY_STATUS = 408


class ObjectStore:
    """The objects of the buckets that the credentials can reach. Threads may share it; processes may not."""

    def __init__(
        self,
        client: Client,
        limits: MetadataSettings,
        timeout_s: tuple[float, float] = TIMEOUT_S,
    ) -> None:
        self._client = client
        self._limits = limits
        #: No call is repeated by the library: it cannot tell its own lost PATCH from a stranger's.
        self._options = {"timeout": timeout_s, "retry": None}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def download(self, version: ObjectVersion, max_bytes: int) -> bytes:
        """The bytes of exactly this generation, checked against the server's checksum, unpacked where gzipped.

        Raises:
            ObjectGone: overwritten or deleted.
            ImageRefused: `object_too_large`, after at most `max_bytes` and one block have been read.
            AccessDenied, StorageUnavailable, PermanentError.
        """
        blob = self._blob(version)
        body = _Bounded(version, max_bytes)
        with _named_errors(version, "storage.objects.get"):
            blob.download_to_file(body, raw_download=True, checksum="auto", **self._options)
        data = body.getvalue()
        return _unzipped(data, version, max_bytes) if blob.content_encoding == "gzip" else data

    def live_generation(self, version: ObjectVersion) -> int | None:
        """The generation under this name now; None where there is none. Tells overwritten from deleted.

        Raises:
            AccessDenied, StorageUnavailable, PermanentError.
        """
        blob = self._client.bucket(version.bucket).blob(version.name)
        try:
            with _named_errors(version, "storage.objects.get"):
                blob.reload(**self._options)
        except ObjectGone:
            return None
        return int(blob.generation)

    def write_metadata(self, version: ObjectVersion, caption: str, task: str, model: str) -> WriteOutcome:
        """Copy the caption to the metadata of exactly this generation; call it again after any transient error.

        Sets `caption`, `caption-task` and `caption-model` and no other key, under both preconditions; sends
        nothing where they already have these values, so a lost response does no harm. What becomes of captions
        that do not fit, or that a person wrote: see `dropline.storage.metadata.fit_metadata`.

        Raises:
            ObjectGone: overwritten or deleted.
            PreconditionLost: somebody else wrote to the metadata between our read and our write.
            AccessDenied, StorageUnavailable, PermanentError.
        """
        ours = {METADATA_CAPTION: caption, METADATA_TASK: task, METADATA_MODEL: model}
        blob, fitted = self._read(version, ours)
        if _holds(blob, fitted):
            return fitted.outcome
        try:
            self._patch(version, blob, fitted)
        except api.PreconditionFailed:
            return self._settle(version, ours)
        except api.BadRequest as error:
            return WriteOutcome(
                written=False,
                code="metadata_left_out",
                note=f"Cloud Storage refused the metadata: {error.message}; the row has the caption",
            )
        return fitted.outcome

    def _settle(self, version: ObjectVersion, ours: Mapping[str, str]) -> WriteOutcome:
        """After a 412: our own write, whose response was lost, or a stranger's."""
        if self.live_generation(version) != version.generation:
            raise ObjectGone(f"{version.uri} was overwritten or deleted before its metadata was written")
        blob, fitted = self._read(version, ours)
        if _holds(blob, fitted):
            return fitted.outcome
        raise PreconditionLost(
            f"somebody else wrote to the metadata of {version.uri}; it is read again and retried"
        )

    def _read(self, version: ObjectVersion, ours: Mapping[str, str]) -> tuple[Blob, Fitted]:
        blob = self._blob(version)
        with _named_errors(version, "storage.objects.get"):
            blob.reload(**self._options)
        return blob, fit_metadata(blob.metadata or {}, ours, self._limits)

    def _patch(self, version: ObjectVersion, read: Blob, fitted: Fitted) -> None:
        # A fresh one, so that the PATCH carries our keys alone.
        blob = self._blob(version)
        blob.metadata = fitted.values
        with _named_errors(version, "storage.objects.update", answered=(api.PreconditionFailed, api.BadRequest)):
            blob.patch(
                if_generation_match=version.generation,
                if_metageneration_match=read.metageneration,
                **self._options,
            )

    def _blob(self, version: ObjectVersion) -> Blob:
        return self._client.bucket(version.bucket).blob(version.name, generation=version.generation)


def make_store(settings: Settings) -> ObjectStore:
    """A store with the environment's credentials, or for the emulator where one is set.

    To be called in the process that uses it: connections do not survive a fork.

    Raises:
        AccessDenied: there are no credentials.
    """
    emulator = settings.storage_emulator_host
    credentials = AnonymousCredentials() if emulator else _credentials()
    session = AuthorizedSession(credentials)
    # One second try of what is safe to repeat: the server may have closed an idle connection meanwhile.
    retry = urllib3.Retry(total=1, status=0, other=0, allowed_methods={"GET"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=POOL_SIZE, max_retries=retry))
    options = None
    if emulator:
        # A proxy of the developer's has no business with an emulator.
        session.trust_env = False
        options = {"api_endpoint": emulator if "://" in emulator else f"http://{emulator}"}
    client = Client(settings.project or None, credentials, _http=session, client_options=options)
    # It would look every bucket up from a thread of its own, for trace attributes, with a right we do not need.
    client._bucket_metadata_cache = None  # noqa: SLF001 - its only other switch is the environment
    return ObjectStore(client, settings.metadata)


def _credentials() -> Credentials:
    try:
        credentials: Credentials = google.auth.default(scopes=[_SCOPE])[0]
    except auth.DefaultCredentialsError as error:
        raise AccessDenied(
            "there are no Google credentials: run as a service account, set GOOGLE_APPLICATION_CREDENTIALS, "
            f"or set STORAGE_EMULATOR_HOST for a local bucket ({error})"
        ) from error
    return credentials


class _Bounded(io.BytesIO):
    """Refuses to grow past the limit, which ends the download."""

    def __init__(self, version: ObjectVersion, max_bytes: int) -> None:
        super().__init__()
        self._version = version
        self._max_bytes = max_bytes

    def write(self, block: bytes, /) -> int:  # type: ignore[override]
        if self.tell() + len(block) > self._max_bytes:
            raise _too_large(self._version, self._max_bytes)
        return super().write(block)


def _unzipped(data: bytes, version: ObjectVersion, max_bytes: int) -> bytes:
    """What `gsutil cp -Z` packed; bytes that only claim to be gzip stay as they are."""
    unzip = zlib.decompressobj(_GZIP)
    try:
        plain = unzip.decompress(data, max_bytes + 1)
    except zlib.error:
        return data
    if len(plain) > max_bytes:
        raise _too_large(version, max_bytes)
    return plain


def _too_large(version: ObjectVersion, max_bytes: int) -> ImageRefused:
    return ImageRefused(
        f"{version.uri} has more than the {max_bytes} bytes that DROPLINE_EVENTS__MAX_SIZE_BYTES allows: "
        "raise it, or upload a smaller image",
        code="object_too_large",
    )


def _holds(blob: Blob, fitted: Fitted) -> bool:
    return fitted.values.items() <= (blob.metadata or {}).items()


@contextlib.contextmanager
def _named_errors(
    version: ObjectVersion, right: str, answered: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Every error of the library under a name of ours, but for those that the caller has an answer to."""
    try:
        yield
    except answered:
        raise
    except api.NotFound as error:
        raise ObjectGone(f"{version.uri} was overwritten or deleted") from error
    except (api.Unauthorized, api.Forbidden, auth.InvalidOperation) as error:
        raise AccessDenied(
            f"Cloud Storage refused {right} on {version.uri}: grant the worker's service account a role with "
            f"{right} on the bucket, then redrive the row, with --metadata if it is captioned ({error})"
        ) from error
    except DataCorruption as error:
        raise StorageUnavailable(f"{version.uri} arrived damaged; it is downloaded again ({error})") from error
    except (*_UNREACHABLE, *_BUSY) as error:
        raise _unavailable(version, error) from error
    except api.GoogleAPICallError as error:
        if error.code == _BUSY_STATUS:
            raise _unavailable(version, error) from error
        raise PermanentError(
            f"Cloud Storage refused the request for {version.uri}: {error.message}", code="storage_refused"
        ) from error


def _unavailable(version: ObjectVersion, error: Exception) -> StorageUnavailable:
    return StorageUnavailable(f"Cloud Storage did not serve {version.uri}; it is tried again ({error})")
