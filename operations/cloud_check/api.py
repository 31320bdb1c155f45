"""Requests to Google's REST APIs (read only), and the errors.

`projects:testIamPermissions` is a POST without a change.
"""

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from dropline.errors import AccessDenied, TransientError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response, Session

_TIMEOUT_S = (5.0, 30.0)
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
#: The project that a request is counted for, in place of that of the credentials.
_PROJECT_HEADER = "x-goog-user-project"
#: Hosts of client-based APIs: they must be enabled in the project that a request is counted for, and a person's
#: login has no such project. The other hosts get no header: with it, Google would refuse those APIs that a new
#: project has not enabled yet.
CLIENT_BASED = frozenset({"cloudquotas.googleapis.com", "orgpolicy.googleapis.com"})
#: Projects of gcloud's own clients, for which Google counts a login without a project.
_GCLOUD_CONSUMERS = frozenset({"projects/764086051850", "projects/32555940559"})


class CloudUnavailable(TransientError):
    """Google's API cannot be reached, or answered 429 or 5xx."""

    default_code = "cloud_unavailable"


@dataclass(eq=False)
class Refused(Exception):
    """An API answered with a status of 4xx."""

    host: str
    status: int
    message: str
    #: The reason of Google's `ErrorInfo`, such as `SERVICE_DISABLED`; empty: none.
    reason: str
    #: The project that Google counted the request for, as `projects/NUMBER` or `projects/ID`; empty: not said.
    consumer: str = ""

    @property
    def is_disabled(self) -> bool:
        """True if the API is not enabled in the project of the request."""
        return not self.lacks_project and (self.reason == "SERVICE_DISABLED" or "it is disabled" in self.message)

    @property
    def lacks_project(self) -> bool:
        """True if Google counted the request for no project of the caller, for the reason `SERVICE_DISABLED`."""
        return "requires a quota project" in self.message or self.consumer in _GCLOUD_CONSUMERS

    @property
    def may_not_use_project(self) -> bool:
        """True if the caller may not have requests counted for the project (`serviceusage.services.use`)."""
        return self.reason == "USER_PROJECT_DENIED"

    @property
    def is_missing(self) -> bool:
        """True if the resource does not exist."""
        return self.status == HTTPStatus.NOT_FOUND


class Api:
    """Google's REST APIs."""

    def __init__(self, session: "Session", client_session: "Session", endpoint: str = "") -> None:
        """Use sessions with credentials.

        Args:
            session: adds the credentials to each request.
            client_session: adds the project to each request as well; for `CLIENT_BASED`.
            endpoint: address of a stand-in, which gets the host as the first part of the path; empty: Google.
        """
        self._session = session
        self._client_session = client_session
        self._endpoint = endpoint.rstrip("/")

    def get(self, host: str, path: str, **parameters: Any) -> dict[str, Any]:
        """The document at a path.

        Raises:
            Refused: the API answered with a status of 4xx.
            AccessDenied: the credentials are not valid.
            CloudUnavailable: no answer, or not Google's.
        """
        return self._send("GET", host, path, params=parameters)

    def post(self, host: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a POST without a change; raises as `get`."""
        return self._send("POST", host, path, json=body)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()
        self._client_session.close()

    def _send(self, method: str, host: str, path: str, **arguments: Any) -> dict[str, Any]:
        from google.auth.exceptions import GoogleAuthError, TransportError
        from requests import RequestException

        root = f"{self._endpoint}/{host}" if self._endpoint else f"https://{host}"
        session = self._client_session if host in CLIENT_BASED else self._session
        try:
            response = session.request(
                method, f"{root}/{path}", timeout=_TIMEOUT_S, allow_redirects=False, **arguments
            )
        except (RequestException, TransportError) as error:
            raise CloudUnavailable(f"no answer from {host}: {error}") from error
        except GoogleAuthError as error:
            raise AccessDenied(
                f"Google refused the credentials: {error}; run: gcloud auth login --update-adc"
            ) from error
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            raise AccessDenied(f"{host} refused the credentials; run: gcloud auth login --update-adc")
        if response.status_code == HTTPStatus.TOO_MANY_REQUESTS or not _is_final(response):
            raise CloudUnavailable(
                f"{host} answered {response.status_code}: {response.text[:200]}; repeat the command"
            )
        if not response.ok:
            raise _refusal(host, response)
        return _document(host, response)


def _is_final(response: "Response") -> bool:
    return response.ok or 400 <= response.status_code < 500


def _document(host: str, response: "Response") -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise CloudUnavailable(f"the answer of {host} is not a document in JSON: {response.text[:200]!r}")
    return found


def _refusal(host: str, response: "Response") -> Refused:
    try:
        error = response.json()["error"]
        details = [each for each in error.get("details", []) if isinstance(each, dict)]
        info = next((each for each in details if "reason" in each), {})
        consumer = str(info.get("metadata", {}).get("consumer", ""))
        return Refused(host, response.status_code, str(error["message"]), str(info.get("reason", "")), consumer)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Refused(host, response.status_code, response.text[:200], "")


def open_api(project: str, endpoint: str = "") -> Api:
    """Google's APIs with the application default credentials; a stand-in without credentials.

    Args:
        project: requests to `CLIENT_BASED` are counted for it, which needs `serviceusage.services.use`.
        endpoint: as in `Api`.

    Raises:
        AccessDenied: no credentials.
    """
    import google.auth
    from google.auth.credentials import AnonymousCredentials
    from google.auth.exceptions import DefaultCredentialsError

    try:
        credentials = (
            AnonymousCredentials()  # type: ignore[no-untyped-call]
            if endpoint
            else google.auth.default(scopes=[_SCOPE])[0]  # type: ignore[no-untyped-call]
        )
    except DefaultCredentialsError as error:
        raise AccessDenied(
            f"there are no Google credentials: {error}; run: gcloud auth login --update-adc"
        ) from error
    sessions = _session(credentials), _session(credentials, project)
    if endpoint:
        for session in sessions:
            # Ignore proxy settings: the stand-in runs on this machine.
            session.trust_env = False
    return Api(*sessions, endpoint)


def _session(credentials: "Credentials", project: str = "") -> "Session":
    """A session whose requests are counted for a project; empty: for that of the credentials."""
    from google.auth.credentials import CredentialsWithQuotaProject
    from google.auth.transport.requests import AuthorizedSession

    if project and isinstance(credentials, CredentialsWithQuotaProject):
        # The header of credentials with another project would replace the session's.
        credentials = credentials.with_quota_project(project)  # type: ignore[no-untyped-call]
    session: Session = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
    if project:
        session.headers[_PROJECT_HEADER] = project
    return session
