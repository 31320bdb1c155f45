"""Cloud Run's Admin API, as far as it is needed: one PATCH that sets the number of a worker pool's instances.

`PATCH https://run.googleapis.com/v2/projects/P/locations/L/workerPools/W?updateMask=scaling.manualInstanceCount`.
It makes no new revision. It needs `run.workerpools.update` on the pool, and `iam.serviceAccounts.actAs` on the
service account that the pool runs as.
"""

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from dropline.errors import AccessDenied, SettingsError
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response, Session

#: Where the Admin API is.
CLOUD_RUN_API = "https://run.googleapis.com"
#: Seconds for connecting, and for the longest silence; together well below the lease of a sleeping mark.
TIMEOUT_S = (3.0, 10.0)
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_NAME = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+")
#: Answers that say: not done, and perhaps the next time.
_NOT_NOW = {HTTPStatus.UNAUTHORIZED, HTTPStatus.CONFLICT, HTTPStatus.TOO_MANY_REQUESTS}


class WorkerPool(Protocol):
    """Something with a number of instances."""

    def prepare(self) -> None:
        """See to it that the next call needs no time but its own.

        Raises:
            ScalingRefused: there is no token now.
        """

    def scale(self, instances: int) -> None:
        """Set the number; to set it to what it is does no harm.

        Raises:
            ScalingRefused: it was not set; it may be the next time.
            ScalingDenied: it was not set; somebody has to change a right or a name first.
            ScalingUnknown: it may have been set, or be set in the next seconds.
        """


class CloudRunWorkerPool:
    """A worker pool of Cloud Run. Threads may share it; processes may not."""

    def __init__(
        self, session: "Session", name: str, api: str = CLOUD_RUN_API, credentials: "Credentials | None" = None
    ) -> None:
        """A pool reached over a session that adds the credentials.

        Raises:
            SettingsError: the name is none of a worker pool.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(
                f"{name!r} is no worker pool: its name is projects/PROJECT/locations/REGION/workerPools/POOL"
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
        from google.auth.transport.requests import Request

        try:
            self._credentials.before_request(Request(), "PATCH", self._url, {})  # type: ignore[no-untyped-call]
        except GoogleAuthError as error:
            raise self._without_token(error) from error

    def scale(self, instances: int) -> None:
        """See `WorkerPool.scale`. Returns when the number is accepted, before instances start or stop."""
        response = self._patch({"scaling": {"manualInstanceCount": instances}})
        if response.ok:
            return self._check_operation(response)
        message = f"Cloud Run answered {response.status_code} to {instances} instances for {self._name}: "
        message += _words(response)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            self._forget_token()
        if response.status_code in _NOT_NOW:
            raise ScalingRefused(f"{message}; it is tried again")
        if _says_no(response.status_code):
            raise ScalingDenied(
                f"{message}; check the pool's name, run.workerpools.update on it, and "
                "iam.serviceAccounts.actAs on its service account"
            )
        raise ScalingUnknown(f"{message}; it may have been done all the same, and is tried again")

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
                timeout=TIMEOUT_S,
                allow_redirects=False,
            )
        except GoogleAuthError as error:
            raise self._without_token(error) from error
        except RequestException as error:
            raise ScalingUnknown(
                f"no answer from Cloud Run about {self._name}; it may have changed, and is tried again ({error})"
            ) from error

    def _without_token(self, error: Exception) -> ScalingRefused:
        return ScalingRefused(
            f"no token for Cloud Run, so {self._name} was not changed; it is tried again ({error})"
        )

    def _forget_token(self) -> None:
        """The next call gets a new one."""
        if self._credentials is not None:
            self._credentials.token = None

    def _check_operation(self, response: "Response") -> None:
        """An operation that has failed at once comes with 200."""
        try:
            failure = response.json().get("error")
        except (ValueError, AttributeError):
            failure = {"message": "the answer is no operation"}
        if failure:
            raise ScalingUnknown(
                f"Cloud Run took the call for {self._name} and failed: {failure}; it is tried again"
            )


def make_worker_pool(name: str, api: str = "") -> CloudRunWorkerPool:
    """A worker pool with the environment's credentials, or without any where another address is given.

    To be called in the process that uses it: connections do not survive a fork.

    Args:
        name: `projects/PROJECT/locations/REGION/workerPools/POOL`.
        api: a stand-in's address; empty: Cloud Run.

    Raises:
        AccessDenied: there are no credentials.
        SettingsError: the name is none of a worker pool.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.auth.transport.requests import AuthorizedSession

    credentials = AnonymousCredentials() if api else _credentials()  # type: ignore[no-untyped-call]
    # A call that is refused is not made again with a new token: that could come after the mark has run out.
    session: Session = AuthorizedSession(credentials, refresh_status_codes=())  # type: ignore[no-untyped-call]
    if api:
        # A proxy of the developer's has no business with a stand-in.
        session.trust_env = False
    return CloudRunWorkerPool(session, name, api or CLOUD_RUN_API, credentials)


def _credentials() -> "Credentials":
    import google.auth
    from google.auth.exceptions import DefaultCredentialsError

    try:
        credentials: Credentials = google.auth.default(scopes=[_SCOPE])[0]  # type: ignore[no-untyped-call]
    except DefaultCredentialsError as error:
        raise AccessDenied(
            "there are no Google credentials to scale the worker pool with: run as a service account, or set "
            f"GOOGLE_APPLICATION_CREDENTIALS ({error})"
        ) from error
    return credentials


def _says_no(status: int) -> bool:
    """A timeout is no answer, though its number looks like one."""
    return 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT


def _words(response: "Response") -> str:
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
