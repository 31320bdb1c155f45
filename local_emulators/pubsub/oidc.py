"""OpenID Connect tokens for push requests, and an HTTP server for the public key.

Every start makes a new key. Tokens have Google's issuer, so a receiver changes only the address of the
certificates: `http://HOST:PORT/oauth2/v3/certs` (JSON Web Key Set) or `/oauth2/v1/certs` (PEM by key id).
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

ISSUER = "https://accounts.google.com"
JWKS_PATH = "/oauth2/v3/certs"
PEM_PATH = "/oauth2/v1/certs"
_LIFETIME = 3600
_RENEW_BEFORE_EXPIRY = 300

_log = logging.getLogger(__name__)


class TokenIssuer:
    """Signs tokens for push requests with a generated key; thread-safe."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        """`now` gives seconds since the epoch."""
        self._now = now
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._key_id = f"emulator-{time.time_ns():x}"
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, str], tuple[float, str]] = {}

    def token(self, email: str, audience: str) -> str:
        """A token valid for five more minutes at least; the token is reused until then."""
        with self._lock:
            expiry, token = self._tokens.get((email, audience), (0.0, ""))
            if expiry - self._now() < _RENEW_BEFORE_EXPIRY:
                expiry, token = self._sign(email, audience)
                self._tokens[email, audience] = expiry, token
        return token

    def jwks(self) -> dict[str, Any]:
        """The public key as a JSON Web Key Set."""
        key = RSAAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return {"keys": [{**key, "kid": self._key_id, "alg": "RS256", "use": "sig"}]}

    def pem_keys(self) -> dict[str, str]:
        """The public key in PEM by key id, the format for google-auth without PyJWT."""
        pem = self._key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return {self._key_id: pem.decode("ascii")}

    def _sign(self, email: str, audience: str) -> tuple[float, str]:
        issued = int(self._now())
        claims = {
            "iss": ISSUER,
            "aud": audience,
            "azp": email,
            "sub": email,
            "email": email,
            "email_verified": True,
            "iat": issued,
            "exp": issued + _LIFETIME,
        }
        token = jwt.encode(claims, self._key, algorithm="RS256", headers={"kid": self._key_id})
        return float(issued + _LIFETIME), token


def serve_keys(issuer: TokenIssuer, host: str, port: int) -> int:
    """Publish the keys from a daemon thread; returns the port. Raises OSError if the address is in use."""
    documents = {
        JWKS_PATH: json.dumps(issuer.jwks()).encode(),
        PEM_PATH: json.dumps(issuer.pem_keys()).encode(),
    }

    class Handler(_DocumentHandler):
        served = documents

    server = ThreadingHTTPServer((host, port), Handler)
    # The default interval of 0.5 s is a check for a shutdown; the daemon thread ends with the process instead.
    threading.Thread(target=server.serve_forever, args=(1e6,), name="keys", daemon=True).start()
    return int(server.server_address[1])


class _DocumentHandler(BaseHTTPRequestHandler):
    served: dict[str, bytes]

    def do_GET(self) -> None:
        body = self.served.get(self.path)
        if body is None:
            self.send_error(404, explain=f"Only {JWKS_PATH} and {PEM_PATH} are served.")
            return
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "public, max-age=3600")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
        _log.debug("keys %s", format % args)
