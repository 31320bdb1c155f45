"""One image from claim to metadata: claim → download → decode → caption → record → write back.

Invariants (see `docs/how-it-works.md`): Postgres before metadata; a result is recorded only while the attempt
holds the row; after the record of the caption, only the write-back is repeated.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, assert_never

from db import attempts, breakers, claims
from db.attempts import Ended
from db.copies import Waits
from db.due_rows import Due, with_time
from db.session import Connection, Database
from dropline.contract import Caption, Claim, Dimensions, ObjectVersion, Original, Status, WriteBack, WriteOutcome
from dropline.errors import (
    AccessDenied,
    DatabaseUnavailable,
    DroplineError,
    ObjectGone,
    PermanentError,
    TransientError,
)
from dropline.log import get_logger
from dropline.settings import Settings
from worker.breaker import EngineUse
from worker.captioning import Answers, Captioner, Captioning, Decoder, Downloads
from worker.identical import Identical
from worker.retry import GiveUp, Gone, RetryLater, backoff_s, decide, is_out_of_time

log = get_logger(__name__)

T = TypeVar("T")


class Store(Downloads, Protocol):
    """Cloud Storage; see `dropline.storage.objects.ObjectStore`."""

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
    #: The write-back that is still to do.
    write_back: WriteBack | None = None
    #: True if the row waits for another row, and `others` has the time alone.
    waits: bool = False


@dataclass(frozen=True, slots=True)
class _Result:
    """A caption to record."""

    caption: Caption
    image: Dimensions
    size_bytes: int
    #: As in the column.
    copied_from: int | None = None


class Pipeline:
    """Processes rows, of an object version at a time; each child has a pipeline."""

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
        self._captioner = captioner
        self._captioning = Captioning(store, decoder, captioner, settings, self._find_reference)
        is_on = settings.worker.copy_identical
        self._identical = Identical(database, self._retry_while_refused, lambda: captioner.model, is_on=is_on)
        self._settings = settings
        self._claimed_by = claimed_by
        self._wake = wake
        self._rng = rng or random.Random()  # noqa: S311 - jitter, not secrets
        self._sleep = sleep

    @property
    def engine_uses(self) -> Sequence[EngineUse]:
        """The result of the engine with each row in the last run, for the breaker of the worker."""
        return self._captioning.engine_uses

    def run(self, hint: int) -> Outcome:
        """Claim the most urgent due row and its siblings, and do their work; a fault of the image fails the row.

        Raises:
            DatabaseUnavailable, AccessDenied: a claimed row is due again at the end of its lease.
        """
        self._captioning.engine_uses = []
        model = self._identical.model
        with self._database.statement() as connection:
            claimed = claims.claim(connection, hint, self._settings.lease_s, self._claimed_by, model)
        if claimed.others.row_ids:
            # One message may stand for many due rows, as after a loss of all messages.
            self._wake(claimed.others.row_ids[0])
        match claimed.work:
            case None:
                return Outcome(_WAITS if claimed.waits else "nothing is due", claimed.others)
            case WriteBack():
                return self._write_due(claimed.work)
            case Claim():
                return self._work((claimed.work, *claimed.siblings), claimed.others)
            case _:
                assert_never(claimed.work)

    def _work(self, claims_: Sequence[Claim], others: Due) -> Outcome:
        """Work on the tasks of one object version. Each row ends by itself, independent of the others."""
        first = claims_[0]
        if first.lost_attempts >= self._settings.worker.max_lost_attempts:
            return self._fail(first, "worker_lost", _lost_message(first))
        known = {claim.row_id: self._identical.of_claim(claim) for claim in claims_}
        found = [(claim, each) for claim in claims_ if (each := known[claim.row_id]) is not None]
        ended = {claim.row_id: self._end_claim(claim, each) for claim, each in found}
        rest = [claim for claim in claims_ if known[claim.row_id] is None]
        if rest:
            ended |= self._caption(rest)
        return self._write_back_all(ended[first.row_id], list(ended.values()), others)

    def _caption(self, claims_: Sequence[Claim]) -> dict[int, Outcome]:
        try:
            answers = self._captioning.answer(claims_, self._identical.of_bytes)
        except Exception as error:  # noqa: BLE001 - `decide` has a decision for every error
            return {claim.row_id: self._not_captioned(claim, error) for claim in claims_}
        return {
            claim.row_id: self._end_claim(claim, outcome, answers)
            for claim, outcome in zip(claims_, answers.outcomes, strict=True)
        }

    def _find_reference(self) -> breakers.Reference | None:
        model = self._captioner.model
        if model is None:
            return None
        with self._database.statement() as connection:
            return breakers.find_reference(connection, *model)

    def _end_claim(
        self,
        claim: Claim,
        outcome: Caption | DroplineError | Original | Waits,
        answers: Answers | None = None,
    ) -> Outcome:
        match outcome:
            case Caption():
                assert answers is not None, "a caption of the model has an image"
                assert answers.image is not None, "a caption of the model has an image"
                return self._record(claim, _Result(outcome, answers.image, answers.size_bytes))
            case Original():
                copied = _Result(outcome.caption, outcome.image, outcome.size_bytes, outcome.row_id)
                return self._record(claim, copied)
            case Waits():
                return Outcome(_WAITS if outcome.held else _MOVED_ON, Due(next_in_s=outcome.next_in_s), waits=True)
            case _:
                return self._not_captioned(claim, outcome)

    def _write_back_all(self, first: Outcome, ended: Sequence[Outcome], others: Due) -> Outcome:
        """Write the caption of the object's first task back; the outcome has the words of the first row."""
        words = first.words
        for end in ended:
            others = with_time(others, end.others.next_in_s) if end.waits else end.others
        for end in ended:
            if end.write_back is not None:
                written = self._write_back(end.write_back)
                words, others = written.words if end is first else words, written.others
        return Outcome(words, others)

    def _record(self, claim: Claim, result: "_Result") -> Outcome:
        # Inference is costly.
        recorded = self._retry_while_refused(lambda: self._commit_caption(claim, result))
        if not recorded.held:
            log.warning("result_refused", row_id=claim.row_id, attempt=claim.attempt)
            return Outcome(_MOVED_ON, recorded.others)
        details: dict[str, float] = {"waited_s": round(recorded.waited_s, 3), "priority": recorded.priority}
        if result.copied_from is not None:
            details["copied_from"] = result.copied_from
        log.info("captioned", row_id=claim.row_id, object=claim.version.uri, attempt=claim.attempt, **details)
        write_back = None
        if recorded.is_write_back_due:
            words = str(claim.task), result.caption.text, result.caption.model, self._claimed_by
            write_back = WriteBack(
                claim.row_id, claim.version, *words, metadata=claim.metadata, is_reverted=claim.is_reverted
            )
        return Outcome(Status.CAPTIONED, recorded.others, write_back)

    def _commit_caption(self, claim: Claim, result: "_Result") -> attempts.Recorded:
        lease_s = self._settings.lease_s if self._settings.metadata.write else None
        with self._database.statement() as connection:
            return attempts.record_caption(
                connection,
                claim,
                result.caption,
                result.image,
                size_bytes=result.size_bytes,
                write_back_lease_s=lease_s,
                copied_from=result.copied_from,
            )

    def _end(self, statement: Callable[[Connection], Ended]) -> Ended:
        """End the attempt: at the end of its lease, the attempt would count as lost."""

        def commit() -> Ended:
            with self._database.statement() as connection:
                return statement(connection)

        return self._retry_while_refused(commit)

    def _retry_while_refused(self, commit: Callable[[], T]) -> T:
        """Commit; retry while Postgres refuses, within the time limits of the task.

        A repetition after a commit with a lost answer has no effect: the attempt has ended.
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

    def _write_due(self, write_back: WriteBack) -> Outcome:
        """An edit makes the row due under any settings of the workers."""
        if not self._settings.metadata.write:
            return self._finish_write_back(write_back, WriteOutcome(written=False))
        return self._write_back(write_back)

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
        ended = self._end(lambda connection: attempts.postpone_write_back(connection, write_back, delay_s))
        return _outcome(ended, Status.CAPTIONED)

    def _finish_write_back(self, write_back: WriteBack, outcome: WriteOutcome) -> Outcome:
        ended = self._end(lambda connection: attempts.finish_write_back(connection, write_back, outcome))
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
            lambda connection: attempts.requeue(
                connection, claim, code, message, lost=decision.lost, slow=decision.slow, delay_s=delay_s
            )
        )
        return _outcome(ended, Status.QUEUED)

    def _fail(self, claim: Claim, code: str, message: str) -> Outcome:
        ended = self._end(lambda connection: attempts.fail(connection, claim, code, message))
        log.warning("caption_failed", row_id=claim.row_id, object=claim.version.uri, code=code, error=message)
        return _outcome(ended, Status.FAILED)

    def _gone(self, claim: Claim) -> Outcome:
        try:
            live = self._store.check_gone(claim.version)
        except (TransientError, AccessDenied, PermanentError) as error:
            return self._not_captioned(claim, error)
        newer = live is not None and live > claim.version.generation
        if newer:
            return _outcome(self._end(lambda connection: attempts.supersede(connection, claim)), Status.SUPERSEDED)
        erase = self._settings.retention.erase_on_delete
        ended = self._end(lambda connection: attempts.mark_deleted(connection, claim, erase=erase))
        return _outcome(ended, Status.DELETED)

    def _backoff(self, failing_s: float) -> float:
        return backoff_s(failing_s, self._settings.worker, self._rng)


_MOVED_ON = "refused: the row has moved on"
_WAITS = "waits for a row with the same bytes"


def _outcome(ended: Ended, status: Status) -> Outcome:
    return Outcome(status if ended.held else _MOVED_ON, ended.others)


def _lost_message(claim: Claim) -> str:
    return (
        f"{claim.version.uri}: {claim.lost_attempts} attempts ended with the death of the process that worked on "
        "it; the image probably crashes the decoder or exhausts memory. Look at the object before you redrive it."
    )
