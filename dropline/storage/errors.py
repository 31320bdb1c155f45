"""Errors of the Cloud Storage library, named as Dropline's errors.

Worker and command line need different errors: a missing object is an outcome for the worker (`ObjectGone`) and a
mistake of the user for a command (`ClientError`). An unreadable file of an upload raises an OSError, so
`command_errors` does not rename plain connection errors, which are OSErrors too.
"""

import contextlib
from collections.abc import Iterator

import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption

from dropline.contract import ObjectVersion
from dropline.errors import AccessDenied, ClientError, ObjectGone, PermanentError, StorageUnavailable

_DENIED = (api.Unauthorized, api.Forbidden)
_BUSY = (api.TooManyRequests, api.ServerError)
_BUSY_STATUS = 408
_WORKER_UNREACHABLE = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
    auth.TransportError,
    auth.RefreshError,
    api.RetryError,
)
_COMMAND_UNREACHABLE = (api.RetryError, auth.GoogleAuthError, requests.RequestException)


@contextlib.contextmanager
def worker_errors(
    version: ObjectVersion, permission: str, handled: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Name the errors of a request of the worker; errors of the types `handled` pass unchanged.

    Raises:
        ObjectGone, AccessDenied, StorageUnavailable.
        PermanentError: any other refusal.
    """
    try:
        yield
    except handled:
        raise
    except api.NotFound as error:
        raise ObjectGone(f"{version.uri} was overwritten or deleted") from error
    except (*_DENIED, auth.InvalidOperation) as error:
        raise AccessDenied(
            f"Cloud Storage refused {permission} on {version.uri}: grant the worker's service account a role with "
            f"{permission} on the bucket, then redrive the row, with --metadata if it is captioned ({error})"
        ) from error
    except DataCorruption as error:
        raise StorageUnavailable(f"{version.uri} arrived damaged; it is downloaded again ({error})") from error
    except (*_WORKER_UNREACHABLE, *_BUSY) as error:
        raise _unavailable(version, error) from error
    except api.GoogleAPICallError as error:
        if error.code == _BUSY_STATUS:
            raise _unavailable(version, error) from error
        raise PermanentError(
            f"Cloud Storage refused the request for {version.uri}: {error.message}", code="storage_refused"
        ) from error


def _unavailable(version: ObjectVersion, error: Exception) -> StorageUnavailable:
    return StorageUnavailable(f"Cloud Storage did not serve {version.uri}; it is tried again ({error})")


@contextlib.contextmanager
def command_errors(uri: str, permission: str, *, missing: str, hint: str = "") -> Iterator[None]:
    """Name the errors of a request of a command.

    Args:
        uri: of the object.
        permission: required for the request.
        missing: URI of the missing resource after a 404: the bucket of an upload, else the object.
        hint: advice for an unreachable server.

    Raises:
        ClientError: 404, or any other refusal.
        AccessDenied, StorageUnavailable.
    """
    try:
        yield
    except api.NotFound as error:
        raise ClientError(f"{missing} is not there") from error
    except _DENIED as error:
        raise AccessDenied(f"Cloud Storage refused {permission} on {uri}: {error.message}") from error
    except (*_BUSY, *_COMMAND_UNREACHABLE) as error:
        raise StorageUnavailable(f"Cloud Storage did not take the request for {uri}{hint}: {error}") from error
    except api.GoogleAPICallError as error:
        raise ClientError(f"Cloud Storage refused the request for {uri}: {error.message}") from error
