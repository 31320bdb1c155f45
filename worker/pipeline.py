"""One image from claim to metadata: claim → download → decode → caption → record → write back.

Invariants (see `docs/how-it-works.md`): Postgres before metadata; a result is recorded only while the attempt
holds the row; after the record of the caption, only the write-back is repeated.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, assert_never

from db import claims
from db.session import Database
from dropline.contract import Caption, Claim, Dimensions, ObjectVersion, Status, WriteBack, WriteOutcome
from dropline.errors import DatabaseUnavailable, InvalidImage, ObjectGone, PermanentError, TransientError
from dropline.images.decoded import Decoded
from dropline.log import get_logger
from dropline.settings import Settings
from dropline.storage.encodings import Content
from worker.engine.wire import CaptionRequest
from worker.retry import GiveUp, Gone, RetryLater, decide, jitter

log = get_logger(__name__)


class Captioner(Protocol):
    """The engine; see `worker.engine.client.EngineClient`."""

    @property
    def input_size(self) -> int:
        """Pixels per side of the model's input."""

    def announce(self) -> None:
        """Announce a request to the engine."""

    def retract(self) -> None:
        """Withdraw the announced request."""

    def caption(self, request: CaptionRequest, *, timeout_s: float) -> Caption:
        """Caption one image, waiting at most `timeout_s` seconds for the engine."""


class Decoder(Protocol):
    """The decoder process; see `dropline.images.decoder.DecoderProcess`."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """Decode one image to a square of `side_px` pixels."""


class Store(Protocol):
    """Cloud Storage; see `dropline.storage.objects.ObjectStore`."""

    def download(self, version: ObjectVersion, max_bytes: int) -> Content:
        """The bytes of exactly this generation."""

    def live_generation(self, version: ObjectVersion) -> int | None:
        """The current generation of the object, or None."""

    def write_metadata(self, write_back: WriteBack) -> WriteOutcome:
        """Copy the caption to the object's metadata."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One arrival of a message."""

    #: True if the message has arrived before: a child may have died with the row, or requested the redelivery.
    repeated: bool
    #: How often the message was sent again.
    retries: int


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """The message is done."""

    #: The new status of the row, or the reason to leave the row alone.
    outcome: str


@dataclass(frozen=True, slots=True)
class Redeliver:
    """The message has to be delivered again, after `delay_s` seconds."""

    delay_s: float
    reason: str


class Pipeline:
    """Processes rows, one at a time; each child has one pipeline."""

    def __init__(
        self,
        database: Database,
        store: Store,
        decoder: Decoder,
        captioner: Captioner,
        settings: Settings,
        *,
        rng: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._store = store
        self._decoder = decoder
        self._captioner = captioner
        self._settings = settings
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._sleep = sleep

    def run(self, row_id: int, delivery: Delivery) -> Acknowledge | Redeliver:
        """Do the work of the row.

        An error of a service becomes `Redeliver`; a fault of the image becomes a `failed` row and `Acknowledge`.
        """
        try:
            return self._run(row_id, delivery)
        except DatabaseUnavailable as error:
            return Redeliver(self._backoff(delivery.retries), str(error))

    def _run(self, row_id: int, delivery: Delivery) -> Acknowledge | Redeliver:
        with self._database.transaction() as connection:
            work = claims.claim(connection, row_id, self._settings.lease_s)
        match work:
            case None:
                return Acknowledge("nothing to do")
            case claims.LeaseHeld(remaining_s):
                if delivery.repeated:
                    # The lease may be that of a dead child, and the message the only one of the row.
                    return Redeliver(remaining_s + 1, "leased")
                return Acknowledge("leased by another attempt")
            case WriteBack():
                return self._write_back(work, delivery)
            case Claim():
                return self._work(work, delivery)
            case _:
                assert_never(work)

    def _work(self, claim: Claim, delivery: Delivery) -> Acknowledge | Redeliver:
        if claim.lost_attempts >= self._settings.worker.max_lost_attempts:
            return self._fail(claim, "worker_lost", _lost_message(claim))
        try:
            image, size_bytes, caption = self._caption(claim)
        except Exception as error:  # noqa: BLE001 - `decide` has a decision for every error
            return self._not_captioned(claim, error)
        return self._record(claim, caption, image, size_bytes, delivery)

    def _caption(self, claim: Claim) -> tuple[Dimensions, int, Caption]:
        size_bytes, decoded = self._fetch(claim.version)
        request = CaptionRequest(
            decoded.pixels,
            claim.task,
            decoded.dimensions,
            # An image that may have killed an engine before must not take the images of its batch along.
            isolated=claim.lost_attempts > 0,
        )
        caption = self._captioner.caption(request, timeout_s=self._settings.engine.request_timeout_s)
        return decoded.dimensions, size_bytes, caption

    def _fetch(self, version: ObjectVersion) -> tuple[int, Decoded]:
        # Announced first: without an engine the download is useless.
        self._captioner.announce()
        try:
            content = self._store.download(version, self._settings.events.max_size_bytes)
            return len(content.data), self._decode(content)
        except BaseException:
            self._captioner.retract()
            raise

    def _decode(self, content: Content) -> Decoded:
        try:
            return self._decoder.decode(content.data, self._captioner.input_size)
        except InvalidImage as error:
            raise content.explain(error) from error

    def _record(
        self, claim: Claim, caption: Caption, image: Dimensions, size_bytes: int, delivery: Delivery
    ) -> Acknowledge | Redeliver:
        lease_s = self._settings.lease_s if self._settings.metadata.write else None
        recorded = self._retry_until_recorded(
            lambda: self._commit_caption(claim, caption, image, size_bytes, lease_s)
        )
        if recorded is None:
            log.warning("result_refused", row_id=claim.row_id, attempt=claim.attempt)
            return Acknowledge("refused: the row has moved on")
        log.info("captioned", row_id=claim.row_id, object=claim.version.uri, attempt=claim.attempt)
        if not recorded.is_write_back_due:
            return Acknowledge(Status.CAPTIONED)
        to_write = WriteBack(claim.row_id, claim.version, str(claim.task), caption.text, caption.model)
        return self._write_back(to_write, delivery)

    def _commit_caption(
        self, claim: Claim, caption: Caption, image: Dimensions, size_bytes: int, lease_s: float | None
    ) -> claims.Recorded | None:
        with self._database.transaction() as connection:
            return claims.record_caption(
                connection, claim, caption, image, size_bytes=size_bytes, write_back_lease_s=lease_s
            )

    def _retry_until_recorded(self, commit: Callable[[], claims.Recorded | None]) -> claims.Recorded | None:
        """Commit a caption; retry while Postgres is unreachable, within the time limits; inference is costly."""
        tries = 0
        while True:
            try:
                return commit()
            except DatabaseUnavailable as error:
                log.warning("record_waits_for_postgres", error=str(error), tries=tries)
                self._sleep(min(5.0, self._backoff(tries)))
                tries += 1

    def _write_back(self, write_back: WriteBack, delivery: Delivery) -> Acknowledge | Redeliver:
        try:
            outcome = self._store.write_metadata(write_back)
        except TransientError as error:
            if delivery.retries < self._settings.worker.max_retries:
                return self._write_back_later(write_back, error, delivery)
            return self._finish_write_back(
                write_back, WriteOutcome(written=False, code=error.code, note=str(error))
            )
        except (ObjectGone, PermanentError) as error:
            return self._finish_write_back(
                write_back, WriteOutcome(written=False, code=error.code, note=str(error))
            )
        return self._finish_write_back(write_back, outcome)

    def _write_back_later(self, write_back: WriteBack, error: TransientError, delivery: Delivery) -> Redeliver:
        with self._database.transaction() as connection:
            claims.expire_lease(connection, write_back.row_id)
        return Redeliver(self._backoff(delivery.retries), f"{error.code}: {error}")

    def _finish_write_back(self, write_back: WriteBack, outcome: WriteOutcome) -> Acknowledge:
        with self._database.transaction() as connection:
            claims.finish_write_back(connection, write_back, outcome)
        if outcome.code:
            log.warning("metadata_incomplete", row_id=write_back.row_id, code=outcome.code, note=outcome.note)
        return Acknowledge(Status.CAPTIONED)

    def _not_captioned(self, claim: Claim, error: Exception) -> Acknowledge | Redeliver:
        decision = decide(error, claim, self._settings.worker, self._rng)
        match decision:
            case Gone():
                return self._gone(claim)
            case GiveUp(code, message):
                return self._fail(claim, code, message)
            case RetryLater(delay_s, code, message, lost):
                log.warning("attempt_failed", row_id=claim.row_id, code=code, error=message, retry_in_s=delay_s)
                with self._database.transaction() as connection:
                    held = claims.requeue(connection, claim, code, message, lost=lost)
                return Redeliver(delay_s, code) if held else Acknowledge("refused: the row has moved on")
            case _:
                assert_never(decision)

    def _fail(self, claim: Claim, code: str, message: str) -> Acknowledge:
        with self._database.transaction() as connection:
            claims.fail(connection, claim, code, message)
        log.warning("caption_failed", row_id=claim.row_id, object=claim.version.uri, code=code, error=message)
        return Acknowledge(Status.FAILED)

    def _gone(self, claim: Claim) -> Acknowledge | Redeliver:
        try:
            live = self._store.live_generation(claim.version)
        except (TransientError, PermanentError) as error:
            return self._not_captioned(claim, error)
        newer = live is not None and live > claim.version.generation
        with self._database.transaction() as connection:
            if newer:
                claims.supersede(connection, claim)
            else:
                claims.mark_deleted(connection, claim)
        return Acknowledge(Status.SUPERSEDED if newer else Status.DELETED)

    def _backoff(self, retries: int) -> float:
        return jitter(retries, self._settings.worker, self._rng)


def _lost_message(claim: Claim) -> str:
    return (
        f"{claim.version.uri}: {claim.lost_attempts} attempts ended with the death of the process that worked on "
        "it; the image probably crashes the decoder or exhausts memory. Look at the object before you redrive it."
    )
