"""Credentials and scopes of the requests to Google's services."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import google.auth
import pytest
from google.auth.credentials import Credentials
from google.auth.exceptions import DefaultCredentialsError, MutualTLSChannelError
from google.auth.transport.requests import AuthorizedSession
from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter

from dropline.contract import ObjectVersion, SeenMetadata, WriteBack
from dropline.errors import AccessDenied, StorageUnavailable
from dropline.scaling.worker_pool import make_worker_pool
from dropline.settings import Settings
from dropline.storage.bucket import Storage
from dropline.storage.objects import make_store

POOL = "projects/p/locations/europe-west4/workerPools/captions"


class ServiceAccount(Credentials):
    """Credentials with a token, without need of a refresh."""

    def __init__(self) -> None:
        super().__init__()
        self.token = "the-service-accounts-token"

    def refresh(self, request: object) -> None:
        """Keep the token."""


@dataclass
class Google:
    """Google's side: the environment's credentials, and every request sent."""

    scopes: list[Sequence[str]] = field(default_factory=list)
    sent: list[PreparedRequest] = field(default_factory=list)

    def default(self, *, scopes: Sequence[str]) -> tuple[Credentials, str]:
        """As `google.auth.default`: credentials and project id."""
        self.scopes.append(scopes)
        return ServiceAccount(), "the-project"

    def send(self, _adapter: HTTPAdapter, request: PreparedRequest, **_: Any) -> Response:
        """As `HTTPAdapter.send`: a document fit for both services, or the refusal of a narrow scope."""
        self.sent.append(request)
        response = Response()
        is_refused = request.method == "PATCH" and "/storage/" in str(request.url) and not self._may_patch()
        response.status_code = 403 if is_refused else 200
        response.headers["content-type"] = "application/json"
        response._content = b'{"generation": "5", "name": "operations/1"}'
        if is_refused:
            response._content = b'{"error": {"message": "Provided scope(s) are not authorized"}}'
        response.request, response.url = request, str(request.url)
        return response

    def _may_patch(self) -> bool:
        """As the page of `objects.patch` says: two scopes are enough, and devstorage.read_write is not."""
        return not {scope.rpartition("/")[2] for each in self.scopes for scope in each}.isdisjoint(
            ("cloud-platform", "devstorage.full_control")
        )


@pytest.fixture
def google_side(monkeypatch: pytest.MonkeyPatch) -> Google:
    """A machine running as a service account."""
    side = Google()
    monkeypatch.setattr(google.auth, "default", side.default)
    monkeypatch.setattr(HTTPAdapter, "send", lambda adapter, request, **options: side.send(adapter, request))
    return side


def look_at_an_object() -> None:
    """Read an object's generation from Cloud Storage."""
    with make_store(Settings(storage_emulator_host="")) as store:
        assert store.live_generation(ObjectVersion("drops", "a.png", 5)) == 5


def write_a_caption() -> None:
    """Write a caption to the metadata of an object whose event had none."""
    version = ObjectVersion("drops", "a.png", 5)
    write_back = WriteBack(1, version, "<CAPTION>", "a red square", "florence", "me", metadata=SeenMetadata(1, 0))
    with make_store(Settings(storage_emulator_host="")) as store:
        assert store.write_metadata(write_back).written


def scale_the_worker_pool() -> None:
    """Set the number of instances in Cloud Run."""
    pool = make_worker_pool(POOL)
    pool.prepare()
    pool.scale(1)
    pool.close()


@pytest.mark.parametrize(
    ("call", "host", "scope"),
    [
        (look_at_an_object, "storage.googleapis.com", "https://www.googleapis.com/auth/devstorage.full_control"),
        (write_a_caption, "storage.googleapis.com", "https://www.googleapis.com/auth/devstorage.full_control"),
        (scale_the_worker_pool, "run.googleapis.com", "https://www.googleapis.com/auth/cloud-platform"),
    ],
)
def test_requests_carry_the_environments_credentials(
    google_side: Google, call: Callable[[], None], host: str, scope: str
) -> None:
    """`google.auth.default` is called with the scope of the service, and gives the token of the request."""
    call()
    assert google_side.scopes == [[scope]]
    assert google_side.sent
    for request in google_side.sent:
        assert str(request.url).startswith(f"https://{host}/")
        assert request.headers["authorization"] == "Bearer the-service-accounts-token"


@pytest.mark.parametrize("call", [look_at_an_object, scale_the_worker_pool])
def test_without_credentials_access_is_denied(monkeypatch: pytest.MonkeyPatch, call: Callable[[], None]) -> None:
    """The error names the variable for credentials."""

    def default(**_: object) -> None:
        raise DefaultCredentialsError("none found")

    monkeypatch.setattr(google.auth, "default", default)
    with pytest.raises(AccessDenied, match="GOOGLE_APPLICATION_CREDENTIALS"):
        call()


@pytest.mark.usefixtures("google_side")
def test_a_broken_client_certificate_is_an_error_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's error of the certificate reaches a person as a line, and not as a traceback."""

    def broken(_: AuthorizedSession) -> None:
        raise MutualTLSChannelError("the key does not fit the certificate")

    monkeypatch.setattr(AuthorizedSession, "configure_mtls_channel", broken)
    with pytest.raises(StorageUnavailable, match="client certificate"):
        Storage.connect(Settings())
