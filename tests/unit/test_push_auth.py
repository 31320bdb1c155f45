"""Only the service accounts of the push subscription and of the wake-up may call the function."""

import time
from collections.abc import Callable
from typing import Any

import jwt
import pytest

from dropline.errors import SettingsError
from dropline.settings import PushSettings
from tests.support.tokens import AUDIENCE, PUSHER, WAKER, Signer, forwarded
from trigger_fn.push_auth import (
    Credentials,
    KeyResolver,
    MissingToken,
    SigningKeysUnavailable,
    TokenRefused,
    TokenVerifier,
    fetched_keys,
)

SETTINGS = PushSettings(audience=AUDIENCE, service_account=PUSHER)
BEHIND_CLOUD_RUN = SETTINGS.model_copy(update={"behind_cloud_run": True, "wake_service_account": WAKER})


@pytest.fixture(scope="module")
def signer() -> Signer:
    """The issuer of tokens."""
    return Signer()


@pytest.fixture(scope="module")
def key_of(signer: Signer) -> KeyResolver:
    """A resolver with the issuer's key for any token."""
    key = jwt.PyJWK(signer.jwk())
    return lambda _token: key


@pytest.fixture(params=["by the function", "by Cloud Run"])
def verify(request: pytest.FixtureRequest, key_of: KeyResolver) -> Callable[[str], None]:
    """The check of an `Authorization` header whose signature the function verifies, or Cloud Run before it."""
    if request.param == "by the function":
        return lambda header: TokenVerifier(SETTINGS, key_of).verify(Credentials(header))
    return lambda header: TokenVerifier(BEHIND_CLOUD_RUN, no_keys).verify(Credentials(forwarded(header)))


@pytest.fixture
def verify_signature(key_of: KeyResolver) -> Callable[[str], None]:
    """The check of an `Authorization` header with its signature."""
    return lambda header: TokenVerifier(BEHIND_CLOUD_RUN, key_of).verify(Credentials(header))


def no_keys(token: str) -> jwt.PyJWK:
    """A resolver for tokens that need no key."""
    raise AssertionError(f"the key of {token} is asked for")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_subscriptions_token_is_accepted(verify: Callable[[str], None], signer: Signer, scheme: str) -> None:
    """A token with the right key, issuer, audience, e-mail and time is accepted."""
    verify(f"{scheme} {signer.token()}")


def test_both_spellings_of_the_issuer(verify: Callable[[str], None], signer: Signer) -> None:
    """The issuer is accepted with and without `https://`: Google uses both."""
    verify(f"Bearer {signer.token(iss='accounts.google.com')}")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", "token"])
def test_no_token(verify: Callable[[str], None], header: str) -> None:
    """A request without a bearer token is unauthenticated, not forbidden."""
    with pytest.raises(MissingToken):
        verify(header)


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://other.example/"},
        {"aud": AUDIENCE.rstrip("/")},
        {"iss": "https://accounts.example"},
        {"email": "someone@project.iam.gserviceaccount.com"},
        {"email": PUSHER.upper()},
        {"email": [PUSHER]},
        {"email_verified": False},
        {"email_verified": "true"},
        {"exp": -3600, "iat": -7200},
        {"iat": 3600},
        {"nbf": 3600},
        {"exp": "soon"},
    ],
    ids=str,
)
def test_a_wrong_claim(verify: Callable[[str], None], signer: Signer, claims: dict[str, Any]) -> None:
    """A single wrong claim is enough for a refusal; numbers are seconds from now."""
    claims = {name: value + int(time.time()) if type(value) is int else value for name, value in claims.items()}
    with pytest.raises(TokenRefused):
        verify(f"Bearer {signer.token(**claims)}")


@pytest.mark.parametrize(("claim", "sign"), [("exp", -1), ("iat", 1), ("nbf", 1)])
def test_clocks_may_differ_by_half_a_minute(
    verify: Callable[[str], None], signer: Signer, claim: str, sign: int
) -> None:
    """A token that expired, or becomes valid, within half a minute is accepted, because clocks differ."""
    now = int(time.time())
    near: dict[str, Any] = {claim: now + sign * 25}
    far: dict[str, Any] = {claim: now + sign * 40}
    verify(f"Bearer {signer.token(**near)}")
    with pytest.raises(TokenRefused):
        verify(f"Bearer {signer.token(**far)}")


@pytest.mark.parametrize("claim", ["aud", "iss", "exp", "iat", "email", "email_verified"])
def test_a_missing_claim(verify: Callable[[str], None], signer: Signer, claim: str) -> None:
    """A single missing claim is enough for a refusal."""
    with pytest.raises(TokenRefused):
        verify(f"Bearer {signer.token(without=claim)}")


def test_another_key(verify_signature: Callable[[str], None]) -> None:
    """A token with valid claims and another signature is refused."""
    with pytest.raises(TokenRefused):
        verify_signature(f"Bearer {Signer().token()}")


def test_a_signature_behind_cloud_run(verify_signature: Callable[[str], None], signer: Signer) -> None:
    """A signature that Cloud Run has left in the token is verified."""
    verify_signature(f"Bearer {signer.token()}")


def test_unsigned_and_symmetric_tokens(verify_signature: Callable[[str], None], signer: Signer) -> None:
    """The algorithm `none`, and the public key as a shared secret, are refused."""
    claims = jwt.decode(signer.token(), options={"verify_signature": False})
    unsigned = jwt.encode(claims, "", algorithm="none", headers={"kid": signer.key_id})
    shared = jwt.encode(claims, str(signer.jwk()["n"]), algorithm="HS256", headers={"kid": signer.key_id})
    for token in (unsigned, shared):
        with pytest.raises(TokenRefused):
            verify_signature(f"Bearer {token}")


@pytest.mark.parametrize("wakes", [False, True])
def test_a_removed_signature_where_nothing_checks_callers(
    key_of: KeyResolver, signer: Signer, wakes: bool
) -> None:
    """Without Cloud Run in front, a token without signature is refused: everybody can write one."""
    verifier = TokenVerifier(SETTINGS, key_of)
    header = forwarded(f"Bearer {signer.token()}")
    with pytest.raises(TokenRefused, match="DROPLINE_PUSH__BEHIND_CLOUD_RUN"):
        verifier.verify(Credentials(header, wakes=wakes))


def test_a_second_token_behind_cloud_run(signer: Signer) -> None:
    """Cloud Run verifies X-Serverless-Authorization alone where it is given, so Authorization may be forged."""
    verifier = TokenVerifier(BEHIND_CLOUD_RUN, no_keys)
    with pytest.raises(TokenRefused, match="X-Serverless-Authorization"):
        verifier.verify(Credentials(forwarded(f"Bearer {signer.token()}"), has_second_token=True))


def test_a_second_token_elsewhere(key_of: KeyResolver, signer: Signer) -> None:
    """Where the function verifies the signature itself, the other header has no meaning."""
    TokenVerifier(SETTINGS, key_of).verify(Credentials(f"Bearer {signer.token()}", has_second_token=True))


@pytest.mark.parametrize(
    ("email", "wakes", "is_accepted"),
    [
        (PUSHER, False, True),
        (PUSHER, True, True),
        (WAKER, True, True),
        (WAKER, False, False),
        ("", True, False),
        (None, True, False),
    ],
)
def test_the_wake_account_wakes_and_brings_no_events(
    key_of: KeyResolver, signer: Signer, email: str | None, wakes: bool, is_accepted: bool
) -> None:
    """The account of the wake-up may wake and check the worker pool, and deliver no event."""
    verifier = TokenVerifier(SETTINGS.model_copy(update={"wake_service_account": WAKER}), key_of)
    credentials = Credentials(f"Bearer {signer.token(email=email)}", wakes=wakes)
    if is_accepted:
        verifier.verify(credentials)
        return
    with pytest.raises(TokenRefused):
        verifier.verify(credentials)


def test_without_a_wake_account_the_push_account_alone_wakes(key_of: KeyResolver, signer: Signer) -> None:
    """An e-mail is not accepted because it is as empty as the setting."""
    verifier = TokenVerifier(SETTINGS, key_of)
    verifier.verify(Credentials(f"Bearer {signer.token()}", wakes=True))
    with pytest.raises(TokenRefused):
        verifier.verify(Credentials(f"Bearer {signer.token(email='')}", wakes=True))


@pytest.mark.parametrize("token", ["x", "a.b.c", "....", "é.ü.ñ", "\x00"])
def test_garbage(token: str) -> None:
    """A malformed token is refused, also by the search for the signing key."""
    verifier = TokenVerifier(SETTINGS, fetched_keys("http://localhost:1/certs"))
    with pytest.raises(TokenRefused):
        verifier.verify(Credentials(f"Bearer {token}"))


def test_keys_out_of_reach(signer: Signer) -> None:
    """Unavailable signing keys raise a separate error: the caller can try again later."""

    def key_of(_token: str) -> jwt.PyJWK:
        raise SigningKeysUnavailable("no keys")

    with pytest.raises(SigningKeysUnavailable):
        TokenVerifier(SETTINGS, key_of).verify(Credentials(f"Bearer {signer.token()}"))


def test_an_audience_alone_protects_nothing(key_of: KeyResolver) -> None:
    """An audience needs a service account too: anybody can get a token for any audience."""
    with pytest.raises(SettingsError, match="DROPLINE_PUSH__SERVICE_ACCOUNT"):
        TokenVerifier(PushSettings(audience=AUDIENCE), key_of)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "", "certs"])
def test_keys_come_from_the_web(url: str) -> None:
    """An address other than http or https is a wrong setting."""
    with pytest.raises(SettingsError, match="DROPLINE_PUSH__CERTS_URL"):
        fetched_keys(url)
