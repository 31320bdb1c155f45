"""The signed header of Google Cloud's Identity-Aware Proxy (IAP), which names the person who passed it.

Source: https://cloud.google.com/iap/docs/signed-headers-howto
"""

from collections.abc import Mapping
from typing import Any

import jwt
from jwt import PyJWKClient
from jwt.exceptions import PyJWKClientConnectionError, PyJWKClientError, PyJWTError

from dropline.errors import SettingsError, TransientError
from dropline.settings import GallerySettings
from gallery.access import CredentialsRefused, Principal, Scope
from gallery.threads import in_thread

HEADER = "x-goog-iap-jwt-assertion"
ISSUER = "https://cloud.google.com/iap"
_ALGORITHM = "ES256"
_CLOCK_SKEW_S = 30
#: The keys are fetched again after this time, and for an unknown key at most every 30 seconds.
_KEYS_LIFESPAN_S = 3600
_FETCH_TIMEOUT_S = 3.0


class ProxyKeysUnavailable(TransientError):
    """The public keys of the Identity-Aware Proxy cannot be fetched."""

    default_code = "signing_keys_unavailable"


class IapVerifier:
    """Verifies signature, audience, issuer and times of the header."""

    def __init__(self, settings: GallerySettings) -> None:
        """Fetch no key yet.

        Raises:
            SettingsError: the address of the keys is no http(s) address.
        """
        self._audience = settings.iap_audience
        self.scopes = frozenset(map(Scope, settings.iap_scopes))
        self._keys_url = settings.iap_keys_url
        try:
            self._keys = PyJWKClient(self._keys_url, lifespan=_KEYS_LIFESPAN_S, timeout=_FETCH_TIMEOUT_S)
        except PyJWKClientError as error:
            raise SettingsError(f"DROPLINE_GALLERY__IAP_KEYS_URL cannot be used: {error}") from None

    async def verify(self, headers: Mapping[str, str]) -> Principal | None:
        """The person of the header; None without the header.

        Raises:
            CredentialsRefused: the header is expired or forged, or made for another audience.
            ProxyKeysUnavailable.
        """
        token = headers.get(HEADER)
        if token is None:
            return None
        claims = await in_thread(lambda: self._claims(token))
        return Principal(str(claims.get("email") or claims["sub"])[:200], self.scopes)

    def _claims(self, token: str) -> dict[str, Any]:
        try:
            key = self._keys.get_signing_key_from_jwt(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                audience=self._audience,
                issuer=ISSUER,
                leeway=_CLOCK_SKEW_S,
                options={"require": ["exp", "iat", "aud", "iss", "sub"]},
            )
        except (PyJWKClientConnectionError, OSError) as error:
            raise ProxyKeysUnavailable(f"no public keys from {self._keys_url}: {error}") from error
        except (PyJWTError, ValueError, RecursionError) as error:
            raise CredentialsRefused(f"the header of the Identity-Aware Proxy is refused: {error}") from error
        return claims
