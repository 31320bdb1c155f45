"""The signed header of an Identity-Aware Proxy, with keys made for the test."""

import asyncio
import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt import PyJWKClient, PyJWKSet
from jwt.algorithms import ECAlgorithm
from jwt.exceptions import PyJWKClientConnectionError

from dropline.settings import GallerySettings
from gallery.access import Access, CredentialsRefused, MissingCredentials, Scope
from gallery.iap import HEADER, ISSUER, IapVerifier, ProxyKeysUnavailable

AUDIENCE = "/projects/1/global/backendServices/2"
KEY, OTHER_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))


def token(key: ec.EllipticCurvePrivateKey = KEY, kid: str = "k1", **claims: Any) -> str:
    """A header as the proxy makes it, with some other claims."""
    now = int(time.time())
    usual = {"aud": AUDIENCE, "iss": ISSUER, "sub": "accounts.google.com:1", "email": "ana@example.com"}
    times = {"iat": now, "exp": now + 600}
    return jwt.encode(usual | times | claims, key, algorithm="ES256", headers={"kid": kid})


@pytest.fixture
def access(monkeypatch: pytest.MonkeyPatch) -> Access:
    """The access of a gallery behind a proxy; the keys are not fetched."""
    verifier = IapVerifier(GallerySettings(iap_audience=AUDIENCE, iap_scopes=("read",)))
    public = json.loads(ECAlgorithm.to_jwk(KEY.public_key())) | {"kid": "k1", "use": "sig", "alg": "ES256"}
    monkeypatch.setattr(
        verifier._keys, "get_jwk_set", lambda refresh=False: PyJWKSet.from_dict({"keys": [public]})
    )
    return Access([], verifier, open_to_machine=False)


def identify(access: Access, header: str | None) -> Any:
    """The sender of a request with the header."""
    return asyncio.run(access.identify({} if header is None else {HEADER: header}, {}))


def test_the_person_has_the_scopes_of_the_settings(access: Access) -> None:
    """Named by the e-mail address."""
    person = identify(access, token())
    assert (person.name, person.scopes) == ("ana@example.com", frozenset({Scope.READ}))


def test_a_request_that_went_around_the_proxy_is_refused(access: Access) -> None:
    """It has no header."""
    with pytest.raises(MissingCredentials):
        identify(access, None)


@pytest.mark.parametrize(
    "header",
    [
        "x",
        token(OTHER_KEY),
        token(kid="k2"),
        token(aud="/projects/1/global/backendServices/3"),
        token(iss="https://accounts.google.com"),
        token(exp=int(time.time()) - 60),
        jwt.encode(
            {"aud": AUDIENCE, "iss": ISSUER, "sub": "1"}, "x" * 32, algorithm="HS256", headers={"kid": "k1"}
        ),
        jwt.encode({"aud": AUDIENCE, "iss": ISSUER, "sub": "1"}, "", algorithm="none", headers={"kid": "k1"}),
        f"{base64.urlsafe_b64encode(b'[' * 30_000).decode()}.e30.",
    ],
    ids=[
        *("no token", "other key", "unknown key", "other audience", "other issuer", "expired", "other algorithm"),
        *("no signature", "deep"),
    ],
)
def test_other_headers_are_refused(access: Access, header: str) -> None:
    """Signature, key, audience, issuer, times and algorithm are checked."""
    with pytest.raises(CredentialsRefused):
        identify(access, header)


def test_without_the_keys_nobody_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage of the keys is a transient error."""

    def fail(_client: PyJWKClient, _refresh: bool = False) -> PyJWKSet:
        raise PyJWKClientConnectionError("refused")

    monkeypatch.setattr(PyJWKClient, "get_jwk_set", fail)
    verifier = IapVerifier(GallerySettings(iap_audience=AUDIENCE))
    with pytest.raises(ProxyKeysUnavailable):
        identify(Access([], verifier, open_to_machine=False), token())
