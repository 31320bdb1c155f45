"""Client of one call of Cloud Run's Admin API: a PATCH that sets a worker pool's number of instances.

`PATCH https://run.googleapis.com/v2/projects/P/locations/L/workerPools/W?updateMask=scaling.manualInstanceCount`.
The PATCH creates no revision. Required permissions: `run.workerpools.update` on the worker pool, and
`iam.serviceAccounts.actAs` on the service account of the worker pool.
"""

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from dropline.errors import SettingsError
from dropline.scaling import google_api
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response, Session

#: Address of the Admin API.
CLOUD_RUN_API = "https://run.googleapis.com"
_NAME = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+")
#: The number of instances is unchanged, and a later call may succeed.
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


class WorkerPool(Protocol):
    """A worker pool whose number of instances can be set."""

    def prepare(self) -> None:
        """Fetch an access token, so that the next call does not have to.

        Raises:
            ScalingRefused: no access token can be fetched now.
        """

    def scale(self, instances: int) -> None:
        """Set the number of instances; idempotent.

        Raises:
            ScalingRefused: the number is unchanged; a later call may succeed.
            ScalingDenied: the number is unchanged; an operator must correct a permission or a name first.
            ScalingUnknown: the number may have been set, or may be set in the next seconds.
        """


class CloudRunWorkerPool:
    """A worker pool of Cloud Run. Threads may share it; processes may not."""

    def __init__(
        self, session: "Session", name: str, api: str = CLOUD_RUN_API, credentials: "Credentials | None" = None
    ) -> None:
        """Use a session that adds the credentials to each request.

        Raises:
            SettingsError: `name` is not the name of a worker pool.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{name!r} is not the name of a worker pool: write "
                "projects/PROJECT/locations/REGION/workerPools/POOL"
            )
        self._session = session
        self._credentials = credentials
        self._name = name
        self._url = f"{api.rstrip('/')}/v2/{name}"

    def prepare(self) -> None:
        """See `WorkerPool.prepare`."""
        if self._credentials is None:
            return
        from google.auth.exceptions import GoogleAuthError

        try:
            google_api.fetch_token(self._credentials, self._url)
        except GoogleAuthError as error:
            raise self._no_token(error) from error

    def scale(self, instances: int) -> None:
        """See `WorkerPool.scale`. Returns when Cloud Run has accepted the number; instances change later."""
        response = self._patch({"scaling": {"manualInstanceCount": instances}})
        if response.ok:
            return self._check_operation(response)
        message = f"Cloud Run answered {response.status_code} to {instances} instances for {self._name}: "
        message += google_api.error_message(response)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            self._drop_token()
        if response.status_code in _REFUSED:
            raise ScalingRefused(f"{message}; the call is tried again")
        if google_api.is_permanent(response.status_code):
            raise ScalingDenied(
                f"{message}; check the pool's name, run.workerpools.update on it, and "
                "iam.serviceAccounts.actAs on its service account"
            )
        raise ScalingUnknown(f"{message}; the number of instances may have changed; the call is tried again")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _patch(self, body: dict[str, Any]) -> "Response":
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            return self._session.patch(
                self._url,
                params={"updateMask": "scaling.manualInstanceCount"},
                json=body,
                timeout=google_api.TIMEOUT_S,
                allow_redirects=False,
            )
        except GoogleAuthError as error:
            raise self._no_token(error) from error
        except RequestException as error:
            raise ScalingUnknown(
                f"no answer from Cloud Run for {self._name}; the number of instances may have changed; "
                f"the call is tried again ({error})"
            ) from error

    def _no_token(self, error: Exception) -> ScalingRefused:
        return ScalingRefused(
            f"no access token for Cloud Run, so {self._name} is unchanged; the call is tried again ({error})"
        )

    def _drop_token(self) -> None:
        """Make the next call fetch a new access token."""
        if self._credentials is not None:
            self._credentials.token = None

    def _check_operation(self, response: "Response") -> None:
        """Raise if the operation in the answer has failed already: the status is 200 nevertheless."""
        try:
            failure = response.json().get("error")
        except (ValueError, AttributeError):
            failure = {"message": "the answer is not an operation"}
        if failure:
            raise ScalingUnknown(
                f"Cloud Run accepted the call for {self._name} and failed: {failure}; the call is tried again"
            )


def make_worker_pool(name: str, api: str = "") -> CloudRunWorkerPool:
    """Return a worker pool, reached with the environment's credentials; without credentials if `api` is set.

    Call in the process that uses the worker pool: connections do not survive a fork.

    Args:
        name: `projects/PROJECT/locations/REGION/workerPools/POOL`.
        api: address of an emulator; empty: Cloud Run.

    Raises:
        AccessDenied: no credentials were found.
        SettingsError: `name` is not the name of a worker pool.
    """
    session, credentials = google_api.open_session(api)
    return CloudRunWorkerPool(session, name, api or CLOUD_RUN_API, credentials)
