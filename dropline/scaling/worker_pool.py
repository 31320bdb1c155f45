"""Client of Cloud Run's Admin API for one worker pool: its number of instances, and what became of a change.

`PATCH https://run.googleapis.com/v2/projects/P/locations/L/workerPools/W?updateMask=scaling.manualInstanceCount`.
The PATCH creates no revision. Its body is the whole worker pool as a GET has just read it, as Google's own
autoscaler does: under a mask that the API does not take, a body without the template would reset the service
account of the worker pool. The etag of the GET makes Cloud Run refuse a body that is out of date.

Required permissions: `run.workerpools.get` and `run.workerpools.update` on the worker pool,
`iam.serviceAccounts.actAs` on its service account, and `run.operations.get` on the project to follow an operation.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

from dropline.errors import SettingsError
from dropline.scaling import google_api
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.scaling.pool_document import PoolDocument

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response, Session

#: Address of the Admin API.
CLOUD_RUN_API = "https://run.googleapis.com"
_NAME = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/workerPools/[^/\s]+")
#: The name of an operation, as it is put into an address.
OPERATION_NAME = re.compile(r"projects/[\w.:-]+/locations/[\w-]+/operations/[\w-]+")
#: The worker pool has changed since it was read: read and sent again.
_CHANGED = {HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED}
#: The number of instances is unchanged, and a later call may succeed.
_REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS} | _CHANGED
#: Times that the worker pool is read and sent.
TRIES = 3


@dataclass(frozen=True, slots=True)
class OperationState:
    """What Cloud Run says of an operation."""

    #: False: still under way.
    done: bool
    #: In words; empty: none.
    failure: str = ""


class WorkerPool(Protocol):
    """A worker pool whose number of instances can be set."""

    def prepare(self) -> None:
        """Fetch an access token, so that the next call does not have to.

        Raises:
            ScalingRefused: no access token can be fetched now.
        """

    def read(self) -> PoolDocument:
        """Read the worker pool.

        Raises:
            ScalingRefused: no answer, or Cloud Run is busy; a later call may succeed.
            ScalingDenied: an operator must correct a permission or a name first.
        """

    def scale(self, instances: int, before_change: Callable[[], None] = lambda: None) -> str:
        """Set the number of instances; idempotent.

        Args:
            instances: the number.
            before_change: called right before each request that may change the number; may raise.

        Returns:
            The name of Cloud Run's operation; empty if it has none, or is done.

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
        self._root = f"{api.rstrip('/')}/v2"
        self._url = f"{self._root}/{name}"

    def prepare(self) -> None:
        """See `WorkerPool.prepare`."""
        if self._credentials is None:
            return
        from google.auth.exceptions import GoogleAuthError

        try:
            google_api.fetch_token(self._credentials, self._url)
        except GoogleAuthError as error:
            raise self._no_token(error) from error

    def read(self) -> PoolDocument:
        """See `WorkerPool.read`."""
        response = self._request("GET", self._url, no_answer=ScalingRefused)
        if not response.ok:
            raise self._refusal(response, "GET", unknown=ScalingRefused)
        try:
            found = response.json()
        except ValueError as error:
            raise ScalingRefused(f"Cloud Run's answer for {self._name} is not JSON; tried again") from error
        if not isinstance(found, dict):
            raise ScalingRefused(f"Cloud Run's answer for {self._name} is not a worker pool; tried again")
        return PoolDocument(found)

    def scale(self, instances: int, before_change: Callable[[], None] = lambda: None) -> str:
        """See `WorkerPool.scale`. Returns when Cloud Run has accepted the number; instances change later."""
        for _ in range(TRIES):
            body = self.read().with_instances(instances)
            before_change()
            response = self._patch(body)
            if response.status_code not in _CHANGED:
                break
        if response.ok:
            return self._operation_of(response)
        raise self._refusal(response, f"{instances} instances", unknown=ScalingUnknown)

    def wait(self, operation: str, timeout_s: float) -> OperationState:
        """Wait for the end of an operation, inside Cloud Run, for `timeout_s` seconds at most.

        Raises:
            ScalingRefused: no answer, or Cloud Run is busy; a later call may succeed.
            ScalingDenied: an operator must correct a permission first, or the operation is gone.
        """
        body = {"timeout": f"{timeout_s:g}s"}
        url = f"{self._root}/{operation}:wait"
        response = self._request("POST", url, json=body, no_answer=ScalingRefused)
        if not response.ok:
            raise self._refusal(response, "the wait for an operation", unknown=ScalingRefused)
        return _operation_state(response)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _patch(self, body: dict[str, Any]) -> "Response":
        mask = {"updateMask": "scaling.manualInstanceCount"}
        return self._request("PATCH", self._url, params=mask, json=body, no_answer=ScalingUnknown)

    def _request(
        self, method: str, url: str, *, no_answer: type[ScalingRefused | ScalingUnknown], **arguments: Any
    ) -> "Response":
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            return self._session.request(
                method, url, timeout=google_api.TIMEOUT_S, allow_redirects=False, **arguments
            )
        except GoogleAuthError as error:
            raise self._no_token(error) from error
        except RequestException as error:
            changed = "the number of instances may have changed; " if no_answer is ScalingUnknown else ""
            raise no_answer(
                f"no answer from Cloud Run for {self._name}; {changed}the call is tried again ({error})"
            ) from error

    def _refusal(
        self, response: "Response", request: str, unknown: type[ScalingRefused | ScalingUnknown]
    ) -> ScalingRefused | ScalingUnknown | ScalingDenied:
        message = f"Cloud Run answered {response.status_code} to {request} for {self._name}: "
        message += google_api.error_message(response)
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            self._drop_token()
        if response.status_code in _REFUSED:
            return ScalingRefused(f"{message}; the call is tried again")
        if google_api.is_permanent(response.status_code):
            return ScalingDenied(
                f"{message}; check the pool's name, run.workerpools.get and run.workerpools.update on it, and "
                "iam.serviceAccounts.actAs on its service account"
            )
        changed = "the number of instances may have changed; " if unknown is ScalingUnknown else ""
        return unknown(f"{message}; {changed}the call is tried again")

    def _no_token(self, error: Exception) -> ScalingRefused:
        return ScalingRefused(
            f"no access token for Cloud Run, so {self._name} is unchanged; the call is tried again ({error})"
        )

    def _drop_token(self) -> None:
        """Make the next call fetch a new access token."""
        if self._credentials is not None:
            self._credentials.token = None

    def _operation_of(self, response: "Response") -> str:
        """The operation's name. Raises if the operation has failed already: the status is 200 nevertheless."""
        state = _operation_state(response)
        if state.failure:
            raise ScalingUnknown(
                f"Cloud Run accepted the call for {self._name} and failed: {state.failure}; tried again"
            )
        name = str(response.json().get("name", ""))
        return name if not state.done and OPERATION_NAME.fullmatch(name) else ""


def _operation_state(response: "Response") -> OperationState:
    try:
        found = response.json()
        failure = found.get("error")
    except (ValueError, AttributeError):
        return OperationState(done=False, failure="the answer is not an operation")
    if not failure:
        return OperationState(done=bool(found.get("done")))
    code, message = (failure.get("code"), failure.get("message")) if isinstance(failure, dict) else ("", failure)
    return OperationState(done=True, failure=f"code {code}: {message}")


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
