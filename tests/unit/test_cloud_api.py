"""The header with the project of a request, with the credentials that people and programs have."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import environment_vars

from operations.cloud_check.api import CLIENT_BASED, open_api

HEADER = "x-goog-user-project"


def person(**more: str) -> dict[str, str]:
    """What `gcloud auth application-default login` writes."""
    return {
        "type": "authorized_user",
        "client_id": "764086051850-x.apps.googleusercontent.com",
        "client_secret": "s",
        "refresh_token": "r",
        **more,
    }


def program() -> dict[str, str]:
    """The key of a service account."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": "its-project",
        "client_email": "ci@its-project.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": "https://oauth2.googleapis.com/token",
    }


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, str | None]:
    """Host → project in the header; each request is answered without a network."""
    seen: dict[str, str | None] = {}

    def send(_: object, request: requests.PreparedRequest, **__: Any) -> requests.Response:
        host = str(request.url).split("/")[2]
        if host != "oauth2.googleapis.com":
            seen[host] = request.headers.get(HEADER)
        response = requests.Response()
        response.status_code = 200
        response._content = b'{"access_token": "t", "expires_in": 3600}'
        return response

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    return seen


@pytest.mark.parametrize(
    ("credentials", "own"),
    [
        (person, None),
        (lambda: person(quota_project_id="other-project"), "other-project"),
        (program, None),
    ],
    ids=["a person", "a person with another project", "a service account"],
)
def test_client_based_apis_get_the_project(
    credentials: Callable[[], dict[str, str]],
    own: str | None,
    sent: dict[str, str | None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """They get the project of the check, whatever the credentials have; the others get that of the credentials."""
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(credentials()))
    monkeypatch.setenv(environment_vars.CREDENTIALS, str(path))
    monkeypatch.delenv(environment_vars.GOOGLE_CLOUD_QUOTA_PROJECT, raising=False)
    api = open_api("my-project")
    for host in (*CLIENT_BASED, "cloudbilling.googleapis.com"):
        api.get(host, "v1/x")
    api.close()
    assert sent == dict.fromkeys(CLIENT_BASED, "my-project") | {"cloudbilling.googleapis.com": own}
