"""The retry policy: which errors end an image, which are tried again, and for how long."""

import random
from dataclasses import dataclass

import pytest
from billiard.exceptions import SoftTimeLimitExceeded
from hypothesis import given
from hypothesis import strategies as st

from dropline.contract import Claim, ObjectVersion, TaskPrompt, TaskRequest
from dropline.errors import (
    AccessDenied,
    DatabaseUnavailable,
    DecoderLost,
    DroplineError,
    EngineLost,
    EngineUnavailable,
    ImageRefused,
    InferenceFailed,
    InvalidImage,
    ObjectGone,
    PreconditionLost,
    SettingsError,
    StorageUnavailable,
)
from dropline.settings import WorkerSettings
from worker.retry import Decision, GiveUp, Gone, RetryLater, decide, jitter

PERMANENT = (AccessDenied, ImageRefused, InferenceFailed, InvalidImage)
TRANSIENT = (DatabaseUnavailable, EngineUnavailable, PreconditionLost, StorageUnavailable)
LOST = (
    EngineLost("gone"),
    DecoderLost("killed"),
    SoftTimeLimitExceeded(),
    MemoryError(),
    KeyError("x"),
    SettingsError("s"),
    SystemExit(1),
)
SETTINGS = WorkerSettings(max_retries=4, max_lost_attempts=3, retry_base_s=2, retry_cap_s=20)

seeds = st.integers(0, 2**32)
small = st.integers(0, 30)


def claim(retries: int = 0, lost: int = 0) -> Claim:
    version = ObjectVersion("bucket", "name", 1)
    return Claim(7, version, TaskRequest(TaskPrompt.CAPTION), retries + lost + 1, lost)


def decided(error: BaseException, retries: int = 0, lost: int = 0, seed: int = 0) -> Decision:
    return decide(error, claim(retries, lost), SETTINGS, random.Random(seed))


@given(st.sampled_from(PERMANENT), small, small)
def test_permanent_errors_end_it_at_once(kind: type[DroplineError], retries: int, lost: int) -> None:
    """A permanent error is final at any attempt, with the code and the words of the error."""
    assert decided(kind("why", code="own_code"), retries, lost) == GiveUp("own_code", "why")


@given(small, small)
def test_what_is_gone_is_no_failure(retries: int, lost: int) -> None:
    """The decision for a missing object is neither a retry nor a failure."""
    assert decided(ObjectGone("gone"), retries, lost) == Gone()


@given(st.sampled_from(TRANSIENT), small, small, seeds)
def test_transient_errors_are_tried_as_often_as_allowed(
    kind: type[DroplineError], retries: int, lost: int, seed: int
) -> None:
    """Transient errors are retried `max_retries` times, lost attempts apart; the last message has the attempts."""
    match decided(kind("down"), retries, lost, seed):
        case RetryLater(delay_s, code, message, is_lost):
            assert retries < SETTINGS.max_retries
            assert (code, message, is_lost) == (kind.default_code, "down", False)
            assert 0 <= delay_s <= min(20, 2 * 2**retries)
        case GiveUp(code, message):
            assert retries >= SETTINGS.max_retries
            assert code == kind.default_code
            assert f"after {retries + lost + 1} attempt" in message
            assert message.endswith("down")
        case other:
            pytest.fail(f"{other}")


@given(st.sampled_from(LOST), small, small, seeds)
def test_lost_attempts_have_their_own_count(error: BaseException, retries: int, lost: int, seed: int) -> None:
    """A possible fault of the image is allowed at most `max_lost_attempts` times, retries apart."""
    match decided(error, retries, lost, seed):
        case RetryLater(delay_s, _, message, is_lost):
            assert lost + 1 < SETTINGS.max_lost_attempts
            assert is_lost
            assert message
            assert 0 <= delay_s <= 20
        case GiveUp(_, message):
            assert lost + 1 >= SETTINGS.max_lost_attempts
            assert "given up after" in message
        case other:
            pytest.fail(f"{other}")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (EngineLost("the engine died"), "engine_lost", "the engine died"),
        (DecoderLost("the decoder was killed"), "decoder_lost", "the decoder was killed"),
        (SoftTimeLimitExceeded(), "inference_timeout", "DROPLINE_WORKER__SOFT_TIME_LIMIT_S"),
        (MemoryError(), "out_of_memory", "ran out of memory"),
        (SettingsError("wrong"), "settings", "wrong"),
        (ZeroDivisionError("by zero"), "internal_error", "ZeroDivisionError: by zero"),
        (KeyboardInterrupt(), "internal_error", "KeyboardInterrupt"),
    ],
)
def test_lost_attempts_are_named(error: BaseException, code: str, words: str) -> None:
    """A lost attempt has the code and the cause of the loss, before a retry and at the end."""
    later = decided(error)
    ended = decided(error, lost=2)
    assert isinstance(later, RetryLater)
    assert isinstance(ended, GiveUp)
    assert later.code == ended.code == code
    assert words in later.message
    assert words in ended.message


def test_one_attempt_is_said_in_the_singular() -> None:
    """Without retries the message has "1 attempt", in the singular."""
    settings = WorkerSettings(max_retries=0)
    gave_up = decide(StorageUnavailable("down"), claim(), settings, random.Random(0))
    assert gave_up == GiveUp("storage_unavailable", "given up after 1 attempt: down")


@given(st.integers(0, 10**6), seeds)
def test_the_wait_is_bounded(tries: int, seed: int) -> None:
    """For any number of tries the wait is between zero and the cap."""
    assert 0 <= jitter(tries, SETTINGS, random.Random(seed)) <= SETTINGS.retry_cap_s


def test_the_wait_is_jittered_over_its_whole_range() -> None:
    """The retries of many workers that fail together are spread over the whole interval."""
    rng = random.Random(4)
    waits = [jitter(2, SETTINGS, rng) for _ in range(2000)]
    assert min(waits) < 0.4
    assert max(waits) > 7.6
    assert sum(waits) / len(waits) == pytest.approx(4, abs=0.3)


def test_the_bound_doubles_up_to_the_cap() -> None:
    """The longest possible wait is base times two to the number of tries, then the cap."""

    class Longest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    assert [jitter(tries, SETTINGS, Longest()) for tries in range(6)] == [2, 4, 8, 16, 20, 20]


@dataclass(frozen=True)
class PlainCounts:
    attempt: int
    lost_attempts: int
    retries: int


def test_any_counts_will_do() -> None:
    """The decision needs three numbers, from a claim or from any other object."""
    decision = decide(StorageUnavailable("down"), PlainCounts(5, 0, 4), SETTINGS, random.Random(0))
    assert isinstance(decision, GiveUp)
