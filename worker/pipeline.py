"""One image from claim to metadata: claim → download → decode → caption → record → write back.

Invariants (see `docs/how-it-works.md`): Postgres before metadata; a result is recorded only while the attempt
holds the row; after the record of the caption, only the write-back is repeated.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar, assert_never

from db import claims
from db.claims import Due, Ended
from db.session import Connection, Database
from dropline.contract import Caption, Claim, Dimensions, ObjectVersion, Status, WriteBack, WriteOutcome
from dropline.errors import (
    AccessDenied,
    DatabaseUnavailable,
    DroplineError,
    EngineLost,
    InvalidImage,
    ObjectGone,
    PermanentError,
    TransientError,
)
from dropline.images.decoded import Decoded
from dropline.log import get_logger
from dropline.settings import Settings
from dropline.storage.encodings import Content
from worker.breaker import EngineUse
from worker.engine.wire import CaptionRequest
from worker.retry import GiveUp, Gone, RetryLater, backoff_s, decide, is_out_of_time

log = get_logger(__name__)

T = TypeVar("T")


class Captioner(Protocol):
    """The engine; see `worker.engine.client.EngineClient`."""

    @property
    def engine(self) -> int:
        """Number of the engine of the last request."""

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

    def check_gone(self, version: ObjectVersion) -> int | None:
        """The current generation of the object, or None; raises if `version` is not known to be gone."""

    def write_metadata(self, write_back: WriteBack) -> WriteOutcome:
        """Copy the caption to the object's metadata."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one message."""

    #: The new status of the row, or the reason to leave the row alone.
    words: str
    #: The other unfinished rows.
    others: Due


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
        claimed_by: str,
        wake: Callable[[int], None],
        rng: random.Random | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._database = database
        self._store = store
        self._decoder = decoder
        self._captioner = captioner
        self._settings = settings
        self._claimed_by = claimed_by
        self._wake = wake
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._sleep = sleep
        #: What the engine did in the last run, for the breaker of the worker; None without a use of the engine.
        self.engine_use: EngineUse | None = None

    def run(self, hint: int) -> Outcome:
        """Claim the most urgent due row, and do its work; a fault of the image becomes a `failed` row.

        Raises:
            DatabaseUnavailable, AccessDenied: a claimed row is due again at the end of its lease.
        """
        self.engine_use = None
        with self._database.statement() as connection:
            claimed = claims.claim(connection, hint, self._settings.lease_s, self._claimed_by)
        if claimed.others.row_ids:
            # One message may stand for many due rows, as after a loss of all messages.
            self._wake(claimed.others.row_ids[0])
        match claimed.work:
            case None:
                return Outcome("nothing is due", claimed.others)
            case WriteBack():
                return self._write_back(claimed.work)
            case Claim():
                return self._work(claimed.work)
            case _:
                assert_never(claimed.work)

    def _work(self, claim: Claim) -> Outcome:
        if claim.lost_attempts >= self._settings.worker.max_lost_attempts:
            return self._fail(claim, "worker_lost", _lost_message(claim))
        try:
            image, size_bytes, caption = self._caption(claim)
        except Exception as error:  # noqa: BLE001 - `decide` has a decision for every error
            return self._not_captioned(claim, error)
        return self._record(claim, caption, image, size_bytes)

    def _caption(self, claim: Claim) -> tuple[Dimensions, int, Caption]:
        size_bytes, decoded = self._fetch(claim.version)
        request = CaptionRequest(
            decoded.pixels,
            claim.task,
            decoded.dimensions,
            # An image that may have killed or blocked an engine must not take the images of its batch along.
            isolated=claim.lost_attempts + claim.slow_attempts > 0,
        )
        return decoded.dimensions, size_bytes, self._use_engine(claim.row_id, request)

    def _use_engine(self, row_id: int, request: CaptionRequest) -> Caption:
        try:
            caption = self._captioner.caption(request, timeout_s=self._settings.engine.request_timeout_s)
        except EngineLost:
            self.engine_use = EngineUse(self._captioner.engine, row_id, lost=True)
            raise
        self.engine_use = EngineUse(self._captioner.engine, row_id, lost=False)
        return caption

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

    def _record(self, claim: Claim, caption: Caption, image: Dimensions, size_bytes: int) -> Outcome:
        lease_s = self._settings.lease_s if self._settings.metadata.write else None
        # Inference is costly.
        recorded = self._retry_while_refused(
            lambda: self._commit_caption(claim, caption, image, size_bytes, lease_s)
        )
        if not recorded.held:
            log.warning("result_refused", row_id=claim.row_id, attempt=claim.attempt)
            return Outcome(_MOVED_ON, recorded.others)
        log.info("captioned", row_id=claim.row_id, object=claim.version.uri, attempt=claim.attempt)
        if not recorded.is_write_back_due:
            return Outcome(Status.CAPTIONED, recorded.others)
        task = str(claim.task)
        return self._write_back(
            WriteBack(
                claim.row_id,
                claim.version,
                task,
                caption.text,
                caption.model,
                self._claimed_by,
                metadata=claim.metadata,
            )
        )

    def _commit_caption(
        self, claim: Claim, caption: Caption, image: Dimensions, size_bytes: int, lease_s: float | None
    ) -> claims.Recorded:
        with self._database.statement() as connection:
            return claims.record_caption(
                connection, claim, caption, image, size_bytes=size_bytes, write_back_lease_s=lease_s
            )

    def _end(self, statement: Callable[[Connection], Ended]) -> Ended:
        """End the attempt: at the end of its lease, the attempt would count as lost."""

        def commit() -> Ended:
            with self._database.statement() as connection:
                return statement(connection)

        return self._retry_while_refused(commit)

    def _retry_while_refused(self, commit: Callable[[], T]) -> T:
        """Commit; retry while Postgres refuses, within the time limits of the task.

        A repetition after a commit whose answer was lost changes nothing: the attempt has ended.
        """
        waited_s = 0.0
        while True:
            try:
                return commit()
            except (DatabaseUnavailable, AccessDenied) as error:
                log.warning("record_waits_for_postgres", error=str(error), waited_s=round(waited_s, 1))
                pause_s = min(5.0, self._backoff(waited_s))
                self._sleep(pause_s)
                waited_s += pause_s

    def _write_back(self, write_back: WriteBack) -> Outcome:
        try:
            outcome = self._store.write_metadata(write_back)
        except (TransientError, AccessDenied) as error:
            if not is_out_of_time(write_back.failing_s, self._settings.worker):
                return self._postpone_write_back(write_back, error)
            outcome = WriteOutcome(written=False, code=error.code, note=str(error))
        except (ObjectGone, PermanentError) as error:
            outcome = WriteOutcome(written=False, code=error.code, note=str(error))
        return self._finish_write_back(write_back, outcome)

    def _postpone_write_back(self, write_back: WriteBack, error: DroplineError) -> Outcome:
        delay_s = self._backoff(write_back.failing_s)
        log.warning(
            "write_back_failed", row_id=write_back.row_id, code=error.code, error=str(error), retry_in_s=delay_s
        )
        ended = self._end(lambda connection: claims.postpone_write_back(connection, write_back, delay_s))
        return _outcome(ended, Status.CAPTIONED)

    def _finish_write_back(self, write_back: WriteBack, outcome: WriteOutcome) -> Outcome:
        ended = self._end(lambda connection: claims.finish_write_back(connection, write_back, outcome))
        if outcome.code:
            log.warning("metadata_incomplete", row_id=write_back.row_id, code=outcome.code, note=outcome.note)
        return _outcome(ended, Status.CAPTIONED)

    def _not_captioned(self, claim: Claim, error: Exception) -> Outcome:
        decision = decide(error, claim, self._settings.worker, self._rng)
        match decision:
            case Gone():
                return self._gone(claim)
            case GiveUp(code, message):
                return self._fail(claim, code, message)
            case RetryLater():
                return self._requeue(claim, decision)
            case _:
                assert_never(decision)

    def _requeue(self, claim: Claim, decision: RetryLater) -> Outcome:
        code, message, delay_s = decision.code, decision.message, decision.delay_s
        log.warning("attempt_failed", row_id=claim.row_id, code=code, error=message, retry_in_s=round(delay_s, 3))
        ended = self._end(
            lambda connection: claims.requeue(
                connection, claim, code, message, lost=decision.lost, slow=decision.slow, delay_s=delay_s
            )
        )
        return _outcome(ended, Status.QUEUED)

    def _fail(self, claim: Claim, code: str, message: str) -> Outcome:
        ended = self._end(lambda connection: claims.fail(connection, claim, code, message))
        log.warning("caption_failed", row_id=claim.row_id, object=claim.version.uri, code=code, error=message)
        return _outcome(ended, Status.FAILED)

    def _gone(self, claim: Claim) -> Outcome:
        try:
            live = self._store.check_gone(claim.version)
        except (TransientError, AccessDenied, PermanentError) as error:
            return self._not_captioned(claim, error)
        newer = live is not None and live > claim.version.generation
        if newer:
            return _outcome(self._end(lambda connection: claims.supersede(connection, claim)), Status.SUPERSEDED)
        erase = self._settings.retention.erase_on_delete
        ended = self._end(lambda connection: claims.mark_deleted(connection, claim, erase=erase))
        return _outcome(ended, Status.DELETED)

    def _backoff(self, failing_s: float) -> float:
        return backoff_s(failing_s, self._settings.worker, self._rng)


_MOVED_ON = "refused: the row has moved on"


def _outcome(ended: Ended, status: Status) -> Outcome:
    return Outcome(status if ended.held else _MOVED_ON, ended.others)


def _lost_message(claim: Claim) -> str:
    return (
        f"{claim.version.uri}: {claim.lost_attempts} attempts ended with the death of the process that worked on "
        "it; the image probably crashes the decoder or exhausts memory. Look at the object before you redrive it."
    )
