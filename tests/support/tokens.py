"""Push tokens signed with the tests' own keys."""

import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

AUDIENCE = "https://function.example/"
PUSHER = "pusher@project.iam.gserviceaccount.com"
WAKER = "waker@project.iam.gserviceaccount.com"
ISSUER = "https://accounts.google.com"


@dataclass(frozen=True)
class Signer:
    """A key pair and the key's name."""

    key_id: str = "key-1"
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))

    def token(self, *, without: str = "", **claims: Any) -> str:
        """A token valid for ten minutes; `claims` replaces claims, and `without` removes a claim."""
        now = int(time.time())
        usual = {
            "aud": AUDIENCE,
            "iss": ISSUER,
            "email": PUSHER,
            "email_verified": True,
            "sub": "1234",
            "iat": now,
            "exp": now + 600,
        }
        said = {key: value for key, value in (usual | claims).items() if key != without}
        return jwt.encode(said, self.key, algorithm="RS256", headers={"kid": self.key_id})

    def jwk(self) -> dict[str, Any]:
        """The public key in the form of a JWKS."""
        public: dict[str, Any] = RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        return public | {"kid": self.key_id, "use": "sig", "alg": "RS256"}


def forwarded(header: str) -> str:
    """An `Authorization` header as Cloud Run forwards it once it has verified the token."""
    return header.rpartition(".")[0] + ".SIGNATURE_REMOVED_BY_GOOGLE"
