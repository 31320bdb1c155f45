"""Identical bytes once: which claims take an existing caption, and which wait for another row."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from db import copies
from db.copies import Model, Waits
from db.session import Database
from dropline.contract import Claim, Original
from dropline.storage.encodings import Identity

T = TypeVar("T")


class Retry(Protocol):
    """Repeats a transaction while Postgres refuses it; see `worker.pipeline.Pipeline`."""

    def __call__(self, commit: Callable[[], T]) -> T: ...


class Identical:
    """Looks for the captions of identical bytes; each child has one."""

    def __init__(
        self, database: Database, retry: Retry, model: Callable[[], tuple[str, str] | None], *, is_on: bool
    ) -> None:
        """Store the parts.

        Args:
            database: of the rows.
            retry: for each transaction.
            model: checkpoint and revision of the engine; None while they are not known.
            is_on: False: no row takes a caption, and none waits.
        """
        self._database = database
        self._retry = retry
        self._model = model
        self._is_on = is_on

    @property
    def model(self) -> Model | None:
        """The model of taken captions; None: no caption is taken."""
        found = self._model() if self._is_on else None
        return None if found is None else Model(*found)

    def of_claim(self, claim: Claim) -> Original | Waits | None:
        """What is known without the bytes; None: the row needs the bytes."""
        if claim.original is not None:
            return claim.original
        if not claim.has_rival or claim.md5_hash is None or claim.size_bytes is None:
            return None
        return self._settle(claim, claim.md5_hash, claim.size_bytes)

    def of_bytes(self, claim: Claim, identity: Callable[[], Identity]) -> Original | Waits | None:
        """What is known of the bytes of an object without an MD5 in the event; None: the row needs the model.

        Args:
            claim: of a row.
            identity: hashes the object's stored bytes, as the MD5 of an event does.
        """
        if claim.md5_hash is not None and claim.size_bytes is not None:
            return None
        stored = identity()
        return self._settle(claim, stored.md5_hash, stored.size_bytes)

    def _settle(self, claim: Claim, md5_hash: str, size_bytes: int) -> Original | Waits | None:
        model = self.model
        if model is None:
            return None

        def commit() -> Original | Waits | None:
            with self._database.transaction() as connection:
                return copies.settle(connection, claim, model, md5_hash, size_bytes)

        return self._retry(commit)
