"""What the function answers with something other than 204 or 503, and why.

PermanentError
├── MissingToken        401: no bearer token where tokens are checked
├── TokenRefused        403: a token that is not the pushing service account's
└── ForeignBucket       403: an event of a bucket that is not ours
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


class ForeignBucket(PermanentError):
    """The event's bucket is not in `DROPLINE_EVENTS__BUCKETS`.

    Not acknowledged on purpose. A subscription that brings such events is wired to the wrong bucket, or the
    list of buckets is wrong; with 204 the events would be gone for good. With 403 Pub/Sub delivers them again,
    with back-off, as often as its dead-letter policy says, and then keeps them there for when the list is right.
    """

    default_code = "foreign_bucket"


class SigningKeysUnavailable(TransientError):
    """The issuer's signing keys (JWKS) cannot be fetched."""

    default_code = "signing_keys_unavailable"
