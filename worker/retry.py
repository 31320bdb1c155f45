"""The retry policy, pure: from an error and the counts of a row to a decision."""

import random
from dataclasses import dataclass
from typing import Protocol

from billiard.exceptions import SoftTimeLimitExceeded

from dropline.errors import DecoderLost, DroplineError, EngineLost, ObjectGone, PermanentError, TransientError
from dropline.settings import WorkerSettings

#: 2 to this power times any base is beyond every cap.
_LARGEST_EXPONENT = 60


class Counts(Protocol):
    """Numbers of attempts; see `dropline.contract.Claim`."""

    @property
    def attempt(self) -> int:
        """Number of the current attempt, from 1."""

    @property
    def lost_attempts(self) -> int:
        """Earlier attempts ended by the death of a process, or counted so."""

    @property
    def retries(self) -> int:
        """Earlier attempts ended by a transient error."""


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Try again, after `delay_s` seconds."""

    delay_s: float
    code: str
    message: str
    #: True if the attempt counts as lost, not as a retry.
    lost: bool = False


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The row becomes `failed`, with error code and message."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Gone:
    """The generation no longer exists: no failure, and no retry."""


Decision = RetryLater | GiveUp | Gone


def decide(error: BaseException, counts: Counts, settings: WorkerSettings, rng: random.Random) -> Decision:
    """The decision about an error of the current attempt.

    A permanent error fails the row at once. A transient error is retried `max_retries` times. An error possibly
    caused by the image (a dead engine or decoder, a time limit, an unexpected error) may happen
    `max_lost_attempts` times.
    """
    match error:
        case ObjectGone():
            return Gone()
        case PermanentError():
            return GiveUp(error.code, str(error))
        case EngineLost() | DecoderLost():
            return _lost(error.code, str(error), counts, settings, rng)
        case TransientError():
            return _again(error, counts, settings, rng)
        case _:
            return _lost(*_unforeseen(error, settings), counts, settings, rng)


def jitter(tries: int, settings: WorkerSettings, rng: random.Random) -> float:
    """Seconds to wait after `tries` earlier waits: full jitter, between 0 and `min(cap, base * 2 ** tries)`."""
    bound = settings.retry_base_s * 2.0 ** min(tries, _LARGEST_EXPONENT)
    return rng.uniform(0.0, min(settings.retry_cap_s, bound))


def _again(
    error: TransientError, counts: Counts, settings: WorkerSettings, rng: random.Random
) -> RetryLater | GiveUp:
    if counts.retries >= settings.max_retries:
        return GiveUp(error.code, _gave_up(str(error), counts.attempt))
    return RetryLater(jitter(counts.retries, settings, rng), error.code, str(error))


def _lost(
    code: str, message: str, counts: Counts, settings: WorkerSettings, rng: random.Random
) -> RetryLater | GiveUp:
    if counts.lost_attempts + 1 >= settings.max_lost_attempts:
        return GiveUp(code, _gave_up(message, counts.attempt))
    return RetryLater(jitter(counts.lost_attempts, settings, rng), code, message, lost=True)


def _unforeseen(error: BaseException, settings: WorkerSettings) -> tuple[str, str]:
    match error:
        case SoftTimeLimitExceeded():
            return (
                "inference_timeout",
                f"no caption within {settings.soft_time_limit_s} s (DROPLINE_WORKER__SOFT_TIME_LIMIT_S)",
            )
        case MemoryError():
            return "out_of_memory", "the worker ran out of memory while it worked on this image"
        case DroplineError():
            return error.code, str(error)
        case _:
            return "internal_error", f"unexpected {type(error).__name__}: {error}"


def _gave_up(message: str, attempts: int) -> str:
    return f"given up after {attempts} attempt{'' if attempts == 1 else 's'}: {message}"
