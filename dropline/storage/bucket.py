"""Cloud Storage as a person uses it: uploads, and the generation that is there now."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

from dropline.contract import METADATA_TASK, ObjectVersion, TaskRequest
from dropline.errors import AccessDenied, ClientError, StorageUnavailable
from dropline.settings import Settings
from dropline.storage.uploads import Upload, Uploaded

if TYPE_CHECKING:
    from google.cloud.storage import Client

#: How long the library may go on repeating one request, in seconds; a local stack is there or it is not.
_PATIENCE_S = 30.0
_PATIENCE_WITH_EMULATOR_S = 2.0


class Storage:
    """The buckets that the caller's credentials, or the emulator, can reach. Threads may share it."""

    def __init__(self, client: "Client", *, local: bool = False) -> None:
        self._client = client
        self._local = local

    @classmethod
    def connect(cls, settings: Settings) -> Self:
        """With the caller's own credentials, or for the emulator where one is set.

        Raises:
            ClientError: google-cloud-storage is not installed.
            AccessDenied: there are no credentials.
        """
        try:
            from google.auth.exceptions import DefaultCredentialsError
            from google.cloud.storage import Client
        except ImportError as error:
            raise ClientError("Cloud Storage needs: pip install 'dropline[cli]'") from error
        if settings.storage_emulator_host:
            return cls.on_emulator(settings.storage_emulator_host, settings.project)
        try:
            return cls(Client(project=settings.project or None))
        except (DefaultCredentialsError, OSError) as error:
            raise AccessDenied(
                "there are no Google credentials: run `gcloud auth application-default login`, or for the local "
                "stack `source .local/env`"
            ) from error

    @classmethod
    def on_emulator(cls, address: str, project: str) -> Self:
        """With a local Cloud Storage at `host:port` or a URL, which wants no credentials."""
        from google.auth.credentials import AnonymousCredentials
        from google.auth.transport.requests import AuthorizedSession
        from google.cloud.storage import Client

        anonymous = AnonymousCredentials()
        session = AuthorizedSession(anonymous)
        # A proxy of the developer's has no business with an emulator.
        session.trust_env = False
        options = {"api_endpoint": address if "://" in address else f"http://{address}"}
        client = Client(project or "dropline", credentials=anonymous, _http=session, client_options=options)
        return cls(client, local=True)

    def upload(self, bucket: str, upload: Upload, task: TaskRequest | None) -> Uploaded:
        """Upload one file; the task goes along as metadata.

        Raises:
            OSError: the file cannot be read.
            ClientError: no such bucket, or a name it does not allow.
            AccessDenied, StorageUnavailable.
        """
        blob = self._client.bucket(bucket).blob(upload.name)
        if task is not None:
            blob.metadata = {METADATA_TASK: str(task)}
        with self._named_errors(f"gs://{bucket}/{upload.name}", "storage.objects.create", f"gs://{bucket}"):
            blob.upload_from_filename(str(upload.path), content_type=upload.content_type, retry=self._retry())
        version = ObjectVersion(bucket, upload.name, int(blob.generation))
        return Uploaded(upload, version, datetime.now(UTC))

    def live_version(self, bucket: str, name: str) -> ObjectVersion:
        """The version of an object that is in the bucket now.

        Raises:
            ClientError: no such object.
            AccessDenied, StorageUnavailable.
        """
        blob = self._client.bucket(bucket).blob(name)
        uri = f"gs://{bucket}/{name}"
        with self._named_errors(uri, "storage.objects.get", uri):
            blob.reload(retry=self._retry())
        return ObjectVersion(bucket, name, int(blob.generation))

    def _retry(self) -> Any:
        from google.cloud.storage.retry import DEFAULT_RETRY

        return DEFAULT_RETRY.with_timeout(_PATIENCE_WITH_EMULATOR_S if self._local else _PATIENCE_S)

    @contextlib.contextmanager
    def _named_errors(self, uri: str, right: str, missing: str) -> Iterator[None]:
        hint = "; is `dropline up` running?" if self._local else ""
        with _named_errors(uri, right, missing, hint):
            yield


@contextlib.contextmanager
def _named_errors(uri: str, right: str, missing: str, hint: str) -> Iterator[None]:
    from google.api_core import exceptions as api
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        yield
    except api.NotFound as error:
        raise ClientError(f"{missing} is not there") from error
    except (api.Unauthorized, api.Forbidden) as error:
        raise AccessDenied(f"Cloud Storage refused {right} on {uri}: {error.message}") from error
    except (api.ServerError, api.TooManyRequests, api.RetryError, GoogleAuthError, RequestException) as error:
        raise StorageUnavailable(f"Cloud Storage did not take the request for {uri}{hint}: {error}") from error
    except api.GoogleAPICallError as error:
        raise ClientError(f"Cloud Storage refused the request for {uri}: {error.message}") from error
