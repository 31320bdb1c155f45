"""A refused connection to an address of this machine: most often a local stack that has stopped. Pure."""

import re

_REFUSED = re.compile(r"connection refused", re.IGNORECASE)
_LOOPBACK = re.compile(r"\b127(?:\.\d{1,3}){3}\b|\blocalhost\b|(?<![0-9a-f:])::1\b")
_ADVICE = "; a local stack has stopped or has other ports: run `dropline up`, then `source .local/env`"


def local_stack_advice(error_text: str) -> str:
    """The end of an error message: what to do about a refused connection on a loopback address; else empty.

    Args:
        error_text: of the client library of Postgres, Redis or Cloud Storage, with the address.
    """
    return _ADVICE if _REFUSED.search(error_text) and _LOOPBACK.search(error_text) else ""
