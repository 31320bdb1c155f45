"""Authentication of callers by the OpenID Connect token of Pub/Sub and Cloud Tasks.

Cloud Run with an IAM check verifies the token first, and forwards it with another text in place of the signature
(https://cloud.google.com/run/docs/troubleshooting#signature-removed). Where the settings say that Cloud Run is in
front, the claims alone of such a token are checked.

PermanentError
├── MissingToken             401: a bearer token is required
└── TokenRefused             403: the token is not from a service account that may make this call
TransientError
└── SigningKeysUnavailable   503: the keys that verify tokens cannot be fetched
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jwt
from jwt import PyJWK, PyJWKClient
from jwt.exceptions import PyJWKClientConnectionError, PyJWKClientError, PyJWTError

from dropline.errors import PermanentError, SettingsError, TransientError
from dropline.settings import PushSettings

#: Finds the key that signed a token. May raise SigningKeysUnavailable and TokenRefused.
KeyResolver = Callable[[str], PyJWK]

#: What Cloud Run writes in place of a signature that it has verified.
_REMOVED_SIGNATURE = "SIGNATURE_REMOVED_BY_GOOGLE"
_CLOCK_SKEW_S = 30
_KEYS_LIFESPAN_S = 3600
_FETCH_TIMEOUT_S = 1.5


class MissingToken(PermanentError):
    """The request has no bearer token."""

    default_code = "missing_token"


class TokenRefused(PermanentError):
    """The token is expired or forged, or has another audience, or an account that may not make this call."""

    default_code = "token_refused"


class SigningKeysUnavailable(TransientError):
    """The issuer's signing keys (JWKS) cannot be fetched."""

    default_code = "signing_keys_unavailable"


@dataclass(frozen=True, slots=True)
class Credentials:
    """The part of a request that decides whether its caller may make it."""

    #: The value of the header `Authorization`.
    authorization: str
    #: The request wakes or checks the worker pool, and brings no event.
    wakes: bool = False
    #: The request has the header `X-Serverless-Authorization`; Cloud Run then verifies that header's token alone.
    has_second_token: bool = False


class TokenVerifier:
    """Verifies signature, issuer, audience, times and the e-mail of the calling service account.

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

    def verify(self, credentials: Credentials) -> None:
        """Verify the token of a request.

        Raises:
            MissingToken: there is no bearer token.
            TokenRefused: the token is not valid now for the audience and an account that may make this call.
            SigningKeysUnavailable: the keys cannot be fetched.
        """
        scheme, _, token = credentials.authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise MissingToken("the request has no bearer token; the push subscription must be set up to send one")
        if self._settings.behind_cloud_run and credentials.has_second_token:
            raise TokenRefused(
                "the request has the header X-Serverless-Authorization, so Cloud Run has not verified the token "
                "in Authorization; send one token, in Authorization"
            )
        self._check_email(self._claims(token.strip()), credentials.wakes)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(token),
                algorithms=["RS256"],
                audience=self._settings.audience,
                issuer=self._settings.issuers,
                leeway=_CLOCK_SKEW_S,
                options={
                    "require": ["exp", "iat", "aud", "iss"],
                    "verify_signature": not _is_verified(token),
                    # Named, since PyJWT leaves them out with the signature.
                    "verify_exp": True,
                    "verify_iat": True,
                    "verify_nbf": True,
                    "verify_aud": True,
                    "verify_iss": True,
                },
            )
        except PyJWTError as error:
            raise TokenRefused(f"the token is refused: {error}") from error
        return claims

    def _key(self, token: str) -> PyJWK | str:
        """The key that signed the token; empty for a token that Cloud Run has verified."""
        if not _is_verified(token):
            return self._key_of(token)
        if not self._settings.behind_cloud_run:
            raise TokenRefused(
                "the token has the signature that Cloud Run writes after its own check; where Cloud Run demands a "
                "token of every caller (IAM), set DROPLINE_PUSH__BEHIND_CLOUD_RUN=true"
            )
        return ""

    def _check_email(self, claims: dict[str, Any], wakes: bool) -> None:
        accounts = {self._settings.service_account: "DROPLINE_PUSH__SERVICE_ACCOUNT"}
        if wakes and self._settings.wake_service_account:
            accounts[self._settings.wake_service_account] = "DROPLINE_PUSH__WAKE_SERVICE_ACCOUNT"
        email = claims.get("email")
        if claims.get("email_verified") is True and isinstance(email, str) and email in accounts:
            return
        allowed = " or ".join(f"{account} ({setting})" for account, setting in accounts.items())
        raise TokenRefused(f"the token is of {ascii(email)[:200]}, not of the verified {allowed}")


def _is_verified(token: str) -> bool:
    """Whether the token says that Cloud Run has verified it; everybody can write such a token."""
    return token.rpartition(".")[2] == _REMOVED_SIGNATURE


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
