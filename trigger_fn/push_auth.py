"""Authentication of pushes by the OpenID Connect token of Pub/Sub.

PermanentError
├── MissingToken             401: a bearer token is required
└── TokenRefused             403: the token is not from the pushing service account
TransientError
└── SigningKeysUnavailable   503: the keys that verify tokens cannot be fetched
"""

from collections.abc import Callable
from typing import Any

import jwt
from jwt import PyJWK, PyJWKClient
from jwt.exceptions import PyJWKClientConnectionError, PyJWKClientError, PyJWTError

from dropline.errors import PermanentError, SettingsError, TransientError
from dropline.settings import PushSettings

#: Finds the key that signed a token. May raise SigningKeysUnavailable and TokenRefused.
KeyResolver = Callable[[str], PyJWK]

_CLOCK_SKEW_S = 30
_KEYS_LIFESPAN_S = 3600
_FETCH_TIMEOUT_S = 1.5


class MissingToken(PermanentError):
    """The request has no bearer token."""

    default_code = "missing_token"


class TokenRefused(PermanentError):
    """The push token is expired or forged, or has another audience or another account."""

    default_code = "token_refused"


class SigningKeysUnavailable(TransientError):
    """The issuer's signing keys (JWKS) cannot be fetched."""

    default_code = "signing_keys_unavailable"


class TokenVerifier:
    """Verifies signature, issuer, audience, times and the e-mail of the pushing service account.

    Raises:
        SettingsError: an audience is set without a service account, so a token of any Google account would pass.
    """

    def __init__(self, settings: PushSettings, key_of: KeyResolver) -> None:
        if not settings.service_account:
            raise SettingsError(
                "DROPLINE_PUSH__SERVICE_ACCOUNT is not set, but DROPLINE_PUSH__AUDIENCE is: set it to the e-mail "
                "of the push subscription's service account, or any Google account could call the function"
            )
        self._settings = settings
        self._key_of = key_of

    def verify(self, authorization: str) -> None:
        """Verify the value of an `Authorization` header.

        Raises:
            MissingToken: the value is not a bearer token.
            TokenRefused: the token is not valid now for the service account and the audience.
            SigningKeysUnavailable: the keys cannot be fetched.
        """
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MissingToken("the request has no bearer token; the push subscription must be set up to send one")
        self._check_email(self._claims(token.strip()))

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key_of(token),
                algorithms=["RS256"],
                audience=self._settings.audience,
                issuer=self._settings.issuers,
                leeway=_CLOCK_SKEW_S,
                options={"require": ["exp", "iat", "aud", "iss"]},
            )
        except PyJWTError as error:
            raise TokenRefused(f"the push token is refused: {error}") from error
        return claims

    def _check_email(self, claims: dict[str, Any]) -> None:
        if claims.get("email") != self._settings.service_account or claims.get("email_verified") is not True:
            raise TokenRefused(
                f"the push token is of {ascii(claims.get('email'))[:200]}, not of the verified "
                f"{self._settings.service_account} (DROPLINE_PUSH__SERVICE_ACCOUNT)"
            )


def fetched_keys(certs_url: str) -> KeyResolver:
    """Keys from a JWKS address: cached for an hour, fetched again at most every 30 s for an unknown key.

    Raises:
        SettingsError: not an http or https address.
    """
    try:
        client = PyJWKClient(certs_url, lifespan=_KEYS_LIFESPAN_S, timeout=_FETCH_TIMEOUT_S)
    except PyJWKClientError as error:
        raise SettingsError(f"DROPLINE_PUSH__CERTS_URL cannot be used: {error}") from None

    def key_of(token: str) -> PyJWK:
        key_id = str(jwt.get_unverified_header(token).get("kid"))
        try:
            client.get_signing_keys()
        except (PyJWTError, ValueError, OSError) as error:
            raise SigningKeysUnavailable(f"no signing keys from {certs_url}: {error}") from error
        try:
            return client.get_signing_key(key_id)
        except (PyJWKClientConnectionError, ValueError, OSError) as error:
            raise SigningKeysUnavailable(f"no new signing keys from {certs_url}: {error}") from error
        except PyJWTError as error:
            raise TokenRefused(f"the push token is signed with a key that {certs_url} does not list") from error

    return key_of
