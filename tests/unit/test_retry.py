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
from worker.retry import Decision, GiveUp, Gone, RetryLater, backoff_s, decide, is_out_of_time

PERMANENT = (ImageRefused, InferenceFailed, InvalidImage)
TRANSIENT = (AccessDenied, DatabaseUnavailable, EngineUnavailable, PreconditionLost, StorageUnavailable)
LOST = (
    EngineLost("gone"),
    DecoderLost("killed"),
    MemoryError(),
    KeyError("x"),
    SettingsError("s"),
    SystemExit(1),
)
RETRY_FOR_S = 3600.0
SETTINGS = WorkerSettings(
    retry_for_s=RETRY_FOR_S, max_lost_attempts=3, max_slow_attempts=4, retry_base_s=2, retry_cap_s=20
)

seeds = st.integers(0, 2**32)
small = st.integers(0, 30)
#: Seconds since the first transient error.
failing = st.floats(0, 2 * RETRY_FOR_S)


def claim(retries: int = 0, lost: int = 0, failing_s: float = 0.0) -> Claim:
    version = ObjectVersion("bucket", "name", 1)
    return Claim(7, version, TaskRequest(TaskPrompt.CAPTION), retries + lost + 1, lost, failing_s=failing_s)


def decided(
    error: BaseException, retries: int = 0, lost: int = 0, failing_s: float = 0.0, seed: int = 0
) -> Decision:
    return decide(error, claim(retries, lost, failing_s), SETTINGS, random.Random(seed))


@given(st.sampled_from(PERMANENT), small, small, failing)
def test_permanent_errors_end_it_at_once(
    kind: type[DroplineError], retries: int, lost: int, failing_s: float
) -> None:
    """A permanent error is final at any attempt, with the code and the words of the error."""
    assert decided(kind("why", code="own_code"), retries, lost, failing_s) == GiveUp("own_code", "why")


@given(small, small, failing)
def test_what_is_gone_is_no_failure(retries: int, lost: int, failing_s: float) -> None:
    """The decision for a missing object is neither a retry nor a failure."""
    assert decided(ObjectGone("gone"), retries, lost, failing_s) == Gone()


def check_wait(delay_s: float, failing_s: float) -> None:
    """The next attempt is after about as long again as the errors have lasted, within base and cap."""
    bound = min(20, max(2, failing_s))
    assert bound / 2 <= delay_s <= min(20, 1.5 * bound)


@given(st.sampled_from(TRANSIENT), small, small, failing, seeds)
def test_transient_errors_are_tried_for_a_time(
    kind: type[DroplineError], retries: int, lost: int, failing_s: float, seed: int
) -> None:
    """Transient errors are retried for `retry_for_s`, however often; the last message has the attempts."""
    match decided(kind("down"), retries, lost, failing_s, seed):
        case RetryLater(delay_s, code, message, is_lost):
            assert failing_s < RETRY_FOR_S
            assert (code, message, is_lost) == (kind.default_code, "down", False)
            check_wait(delay_s, failing_s)
        case GiveUp(code, message):
            assert failing_s >= RETRY_FOR_S
            assert code == kind.default_code
            assert f"after {retries + lost + 1} attempt" in message
            assert message.endswith("down")
        case other:
            pytest.fail(f"{other}")


@given(st.sampled_from(LOST), small, small, failing, seeds)
def test_lost_attempts_have_their_own_count(
    error: BaseException, retries: int, lost: int, failing_s: float, seed: int
) -> None:
    """A possible fault of the image is allowed at most `max_lost_attempts` times, whatever the time."""
    match decided(error, retries, lost, failing_s, seed):
        case RetryLater(delay_s, _, message, is_lost):
            assert lost + 1 < SETTINGS.max_lost_attempts
            assert is_lost
            assert message
            check_wait(delay_s, failing_s)
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


@given(small, small, failing, seeds)
def test_soft_time_limits_have_their_own_count(lost: int, slow: int, failing_s: float, seed: int) -> None:
    """A soft time limit is no death: it is allowed `max_slow_attempts` times, whatever the deaths and the time."""
    counts = PlainCounts(slow + lost + 1, lost, failing_s, slow)
    match decide(SoftTimeLimitExceeded(), counts, SETTINGS, random.Random(seed)):
        case RetryLater(delay_s, code, message, is_lost, is_slow):
            assert slow + 1 < SETTINGS.max_slow_attempts
            assert (code, is_lost, is_slow) == ("inference_timeout", False, True)
            assert "DROPLINE_WORKER__SOFT_TIME_LIMIT_S" in message
            check_wait(delay_s, failing_s)
        case GiveUp(code, message):
            assert slow + 1 >= SETTINGS.max_slow_attempts
            assert code == "inference_timeout"
            assert "given up after" in message
        case other:
            pytest.fail(f"{other}")


def test_the_soft_time_limits_of_an_hour_set_no_image_aside() -> None:
    """With the default settings, the attempts and the pauses of an image that is always too slow take an hour."""
    settings, rng = WorkerSettings(), random.Random(7)
    failing_s = 0.0
    for slow in range(settings.max_slow_attempts - 1):
        decision = decide(SoftTimeLimitExceeded(), PlainCounts(slow + 1, 0, failing_s, slow), settings, rng)
        assert isinstance(decision, RetryLater)
        failing_s += decision.delay_s + settings.soft_time_limit_s
    assert 2400 < failing_s < 7200


def test_one_attempt_is_said_in_the_singular() -> None:
    """Without retries the message has "1 attempt", in the singular."""
    settings = WorkerSettings(retry_for_s=0)
    gave_up = decide(StorageUnavailable("down"), claim(), settings, random.Random(0))
    assert gave_up == GiveUp("storage_unavailable", "given up after 1 attempt: down")


@given(st.floats(0, 10**9), seeds)
def test_the_wait_is_bounded(failing_s: float, seed: int) -> None:
    """After any time the wait is between half the base and the cap."""
    check_wait(backoff_s(failing_s, SETTINGS, random.Random(seed)), failing_s)


def test_the_wait_is_jittered_over_its_whole_range() -> None:
    """The retries of many workers that fail together are spread over the whole interval."""
    rng = random.Random(4)
    waits = [backoff_s(8, SETTINGS, rng) for _ in range(2000)]
    assert min(waits) < 4.1
    assert max(waits) > 11.9
    assert sum(waits) / len(waits) == pytest.approx(8, abs=0.3)


@given(seeds)
def test_the_waits_of_an_outage_grow_up_to_the_cap(seed: int) -> None:
    """An outage of an hour costs few attempts: each wait is as long as the outage so far, then the cap."""
    settings, rng = WorkerSettings(retry_base_s=1, retry_cap_s=300), random.Random(seed)
    failing_s, attempts = 0.0, 0
    while failing_s < 3600:
        failing_s += backoff_s(failing_s, settings, rng)
        attempts += 1
    assert attempts <= 50


@pytest.mark.parametrize(("failing_s", "is_over"), [(0.0, False), (RETRY_FOR_S - 1, False), (RETRY_FOR_S, True)])
def test_the_time_of_retries_ends(failing_s: float, is_over: bool) -> None:
    """The end of `retry_for_s` is out of time."""
    assert is_out_of_time(failing_s, SETTINGS) is is_over


@dataclass(frozen=True)
class PlainCounts:
    attempt: int
    lost_attempts: int
    failing_s: float
    slow_attempts: int = 0


def test_any_counts_will_do() -> None:
    """The decision needs three numbers, from a claim or from any other object."""
    decision = decide(StorageUnavailable("down"), PlainCounts(5, 0, RETRY_FOR_S), SETTINGS, random.Random(0))
    assert isinstance(decision, GiveUp)
