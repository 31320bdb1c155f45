"""Whether a second request with an `Idempotency-Key` is the request that made the key's object."""

import base64
import hashlib
from dataclasses import dataclass
from typing import BinaryIO

from dropline.contract import TaskRequest
from dropline.errors import KeyReused
from dropline.storage.bucket import StoredObject


def digest_of_address(address: str) -> str:
    """The form in which an object has the address of its image: an address may contain a secret."""
    return hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """The parts of a request, the same in a repetition."""

    task: TaskRequest | None
    #: None for an image of an address.
    size_bytes: int | None = None
    #: MD5 of the bytes in base64, as Cloud Storage gives it; None before the bytes.
    md5_hash: str | None = None
    #: Of the address of the image; see `digest_of_address`.
    address_digest: str | None = None

    def require_made(self, found: StoredObject) -> None:
        """Refuse a request that did not make the object of its key.

        Raises:
            KeyReused: image, address or task differs.
        """
        task = None if self.task is None else str(self.task)
        facts = found.facts
        pairs = {
            "another task": (task, found.task),
            "another address": (self.address_digest, found.address_digest),
            "another image": (self.size_bytes or facts.size_bytes, facts.size_bytes),
            "an image with other bytes": (self.md5_hash or facts.md5_hash, facts.md5_hash or self.md5_hash),
        }
        if words := next((words for words, (given, known) in pairs.items() if given != known), None):
            raise KeyReused(
                f"this Idempotency-Key was used with {words}, for {found.version.uri}: repeat that request "
                "unchanged, or use a new key"
            )


def md5_of(content: BinaryIO) -> str:
    """The MD5 of a seekable file in base64."""
    content.seek(0)
    digest = hashlib.md5(usedforsecurity=False)
    while block := content.read(2**20):
        digest.update(block)
    return base64.b64encode(digest.digest()).decode()
