"""What the calls of Google's HTTP APIs have in common: sessions with credentials, time limits, and errors."""

from http import HTTPStatus
from typing import TYPE_CHECKING

from dropline.errors import AccessDenied

if TYPE_CHECKING:
    from google.auth.credentials import Credentials
    from requests import Response, Session

#: Seconds for connecting, and between received bytes; the sum is well below the lifetime of a sleeping mark.
TIMEOUT_S = (3.0, 10.0)
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


def open_session(api: str) -> "tuple[Session, Credentials]":
    """A session with the environment's credentials, and the credentials; anonymous if `api` names an emulator.

    Raises:
        AccessDenied: no credentials were found.
    """
    from google.auth.credentials import AnonymousCredentials
    from google.auth.transport.requests import AuthorizedSession

    credentials = AnonymousCredentials() if api else _credentials()  # type: ignore[no-untyped-call]
    # No second call with a new token after a 401: the second call could come after the mark has expired.
    session: Session = AuthorizedSession(credentials, refresh_status_codes=())  # type: ignore[no-untyped-call]
    if api:
        # Ignore proxy settings: the emulator runs on this machine.
        session.trust_env = False
    return session, credentials


def fetch_token(credentials: "Credentials", url: str) -> None:
    """Fetch an access token where the credentials have none that is valid.

    Raises:
        GoogleAuthError: no access token can be fetched now.
    """
    from google.auth.transport.requests import Request

    credentials.before_request(Request(), "POST", url, {})  # type: ignore[no-untyped-call]


def is_permanent(status: int) -> bool:
    """Return True for client errors except 408: after a timeout, the call may have been executed."""
    return 400 <= status < 500 and status != HTTPStatus.REQUEST_TIMEOUT


def error_message(response: "Response") -> str:
    """The message of a refusal, else the beginning of the answer."""
    try:
        return str(response.json()["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


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
