"""Errors of the Cloud Storage library, named as Dropline's errors.

Worker and command line need different errors: a missing object is an outcome for the worker (`ObjectGone`) and a
mistake of the user for a command (`ClientError`). An unreadable file of an upload raises an OSError, so
`command_errors` does not rename plain errors of files, which are OSErrors too.

`dropline.storage.refusals` has the reasons of refusals, each with its remedy.
"""

import contextlib
import http
import socket
import ssl
from collections.abc import Iterator

import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from dropline.contract import ObjectVersion
from dropline.errors import (
    AccessDenied,
    ClientError,
    DroplineError,
    ObjectGone,
    ObjectMissing,
    PermanentError,
    StorageUnavailable,
)
from dropline.loopback import local_stack_advice
from dropline.storage.refusals import auth_text, passes, read_refusal, remedy

_BUSY = (api.TooManyRequests, api.ServerError)
_BUSY_STATUSES = (402, 408, 425)
_DENIED = (401, 403)
_NETWORK = (
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    socket.gaierror,
    api.RetryError,
    InvalidResponse,
)
#: No credentials at all, or unusable ones: no later attempt has others.
_NO_CREDENTIALS = (auth.DefaultCredentialsError,)


@contextlib.contextmanager
def worker_errors(
    version: ObjectVersion, permission: str, handled: tuple[type[Exception], ...] = ()
) -> Iterator[None]:
    """Name the errors of a request of the worker; errors of the types `handled` pass unchanged.

    A missing right is an AccessDenied: the row waits for the right.

    A refusal whose cause concerns every object alike (billing, a disabled key or API, a quota) is a
    StorageUnavailable: the row waits, and is captioned when the cause is gone.

    Raises:
        ObjectGone, AccessDenied, StorageUnavailable.
        PermanentError: any other refusal.
    """
    passing: tuple[type[Exception], ...] = (*handled, DroplineError)
    try:
        yield
    except passing:
        raise
    except api.NotFound as error:
        raise ObjectGone(f"{version.uri} was overwritten or deleted") from error
    except DataCorruption as error:
        raise StorageUnavailable(f"{version.uri} arrived damaged; it is downloaded again ({error})") from error
    except _NO_CREDENTIALS as error:
        raise AccessDenied(
            f"no credentials for {permission} on {version.uri}: {auth_text(error)}; correct the worker's "
            "credentials; the row waits until then"
        ) from error
    except auth.GoogleAuthError as error:
        raise _unavailable(version, auth_text(error)) from error
    except (*_NETWORK, *_BUSY, OSError) as error:
        raise _unavailable(version, str(error)) from error
    except (api.GoogleAPICallError, ValueError) as error:
        raise _refused_to_worker(version, permission, error) from error


def _unavailable(version: ObjectVersion, reason: str) -> StorageUnavailable:
    return StorageUnavailable(f"Cloud Storage did not serve {version.uri}; it is tried again ({reason})")


def _refused_to_worker(
    version: ObjectVersion, permission: str, error: api.GoogleAPICallError | ValueError
) -> DroplineError:
    if isinstance(error, ValueError):
        return PermanentError(f"no request for {version.uri} can be made: {error}", code="storage_refused")
    refusal = read_refusal(error)
    to_do = remedy(refusal, permission, "the worker's service account")
    if refusal.status in _BUSY_STATUSES or passes(refusal):
        return _unavailable(version, f"{refusal.text}; {to_do}")
    if refusal.status in _DENIED:
        return AccessDenied(
            f"Cloud Storage refused {permission} on {version.uri}: {refusal.text}; {to_do}; the row "
            "waits until then"
        )
    return PermanentError(
        f"Cloud Storage refused the request for {version.uri}: {refusal.text}", code="storage_refused"
    )


@contextlib.contextmanager
def command_errors(uri: str, permission: str, *, missing: str, hint: str = "") -> Iterator[None]:
    """Name the errors of a request of a command.

    Args:
        uri: of the object.
        permission: required for the request.
        missing: URI of the missing resource after a 404: the bucket of an upload, else the object.
        hint: advice for an unreachable server.

    Raises:
        ObjectMissing: 404.
        ClientError: any other refusal.
        AccessDenied, StorageUnavailable.
    """
    try:
        yield
    except api.NotFound as error:
        raise ObjectMissing(f"{missing} is not there; check the name and the project") from error
    except InvalidResponse as error:
        # A resumable upload in parts names no status by a type, as other requests do.
        with command_errors(uri, permission, missing=missing, hint=hint):
            raise _typed(error) from error
    except _NO_CREDENTIALS as error:
        raise AccessDenied(
            f"the credentials cannot be used: {auth_text(error)}; run `gcloud auth application-default login`"
        ) from error
    except auth.GoogleAuthError as error:
        raise StorageUnavailable(f"no access token for {uri}: {auth_text(error)}") from error
    except (*_BUSY, *_NETWORK, DataCorruption) as error:
        advice = local_stack_advice(str(error)) or hint
        raise StorageUnavailable(f"Cloud Storage did not take the request for {uri}: {error}{advice}") from error
    except api.GoogleAPICallError as error:
        raise _refused_to_command(uri, permission, error) from error
    except ValueError as error:
        raise ClientError(f"no request for {uri} can be made: {error}; check the names") from error


def _typed(error: InvalidResponse) -> Exception:
    """The error of the status of the answer; a ConnectionError for a status that is no error."""
    if error.response is None:
        return ConnectionError(str(error))
    status = error.response.status_code
    if status < http.HTTPStatus.BAD_REQUEST:
        return ConnectionError(f"an unexpected answer with the status {status}")
    typed: Exception = api.from_http_response(error.response)
    return typed


def _refused_to_command(uri: str, permission: str, error: api.GoogleAPICallError) -> DroplineError:
    refusal = read_refusal(error)
    to_do = remedy(refusal, permission, "your account")
    if refusal.status in _BUSY_STATUSES or passes(refusal):
        return StorageUnavailable(f"Cloud Storage did not take the request for {uri}: {refusal.text}; {to_do}")
    if refusal.status in _DENIED:
        return AccessDenied(f"Cloud Storage refused {permission} on {uri}: {refusal.text}; {to_do}")
    return ClientError(f"Cloud Storage refused the request for {uri}: {refusal.text}")
