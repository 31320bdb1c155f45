"""What the function answers with something other than 204 or 503, and why.

PermanentError
├── MissingToken        401: no bearer token where tokens are checked
└── TokenRefused        403: a token that is not the pushing service account's
TransientError
└── SigningKeysUnavailable   503: the keys that tokens are checked with cannot be fetched
"""

from dropline.errors import PermanentError, TransientError


class MissingToken(PermanentError):
    """The request carries no bearer token."""

    default_code = "missing_token"


class TokenRefused(PermanentError):
    """The push token is expired, forged, or made for or by somebody else."""

    default_code = "token_refused"


class SigningKeysUnavailable(TransientError):
    """The issuer's signing keys (JWKS) cannot be fetched."""

    default_code = "signing_keys_unavailable"
