"""Answers of the decoder are untrusted bytes; every refusal of the decoders passes."""

import ast
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.contract import Dimensions
from dropline.errors import ImageRefused, InvalidImage, PermanentError
from dropline.images.decoder_wire import (
    MAX_TEXT_BYTES,
    REFUSALS,
    Answer,
    Ended,
    WrongAnswer,
    printable,
    refusal,
)
from dropline.settings import ImageSettings

_LIMITS = ImageSettings(max_pixels=1000, max_side=100)
_IMAGES = Path(__file__).resolve().parents[2] / "dropline" / "images"
#: Codes that the child gives, not the decoder.
_OF_THE_CHILD = {"decode_timeout", "decoder_crashed"}


def _round_trip(error: PermanentError) -> PermanentError:
    message = refusal(error)
    answer = Answer.unpack(message[: Answer.FORMAT.size], _LIMITS)
    return answer.error(message[Answer.FORMAT.size :])


@pytest.mark.parametrize("code", REFUSALS)
def test_a_refusal_keeps_its_type_code_and_text(code: str) -> None:
    """The child raises the error of the decoder."""
    error = _round_trip(REFUSALS[code]("so groß wie 2 × 3", code=code))
    assert (type(error), error.code, str(error)) == (REFUSALS[code], code, "so groß wie 2 × 3")


def test_every_code_of_the_decoders_has_a_number() -> None:
    """Another code would become `corrupt_image`."""
    codes = set()
    for path in _IMAGES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                codes.add(node.value.value)
    assert codes - _OF_THE_CHILD == set(REFUSALS)


def test_a_long_text_is_cut() -> None:
    """Whole characters remain, within the limit."""
    error = _round_trip(InvalidImage("ü" * 3000, code="corrupt_image"))
    assert len(str(error).encode()) <= MAX_TEXT_BYTES + 2
    assert str(error).startswith("ü" * 900)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(0, 0, 1, 0),
        Answer(0, 101, 1, 0),
        Answer(0, 50, 50, 0),
        Answer(0, 2**32 - 1, 2**32 - 1, 0),
        Answer(0, 1, 1, 1),
        Answer(len(REFUSALS) + 1, 0, 0, 1),
        Answer(1, 0, 0, MAX_TEXT_BYTES + 1),
        Answer(1, 1, 1, 1),
    ],
)
def test_a_wrong_answer_is_refused(answer: Answer) -> None:
    """Sizes beyond the limits, unknown codes and long texts never reach the caller."""
    with pytest.raises(WrongAnswer):
        Answer.unpack(answer.pack(), _LIMITS)


@given(st.binary(min_size=Answer.FORMAT.size, max_size=Answer.FORMAT.size))
def test_any_header_is_an_answer_within_the_limits_or_wrong(message: bytes) -> None:
    """No other error is raised, and no unbounded read follows."""
    try:
        answer = Answer.unpack(message, _LIMITS)
    except WrongAnswer:
        return
    assert answer.text_bytes <= MAX_TEXT_BYTES
    assert answer.width * answer.height <= _LIMITS.max_pixels


def test_an_answer_with_pixels_has_the_size() -> None:
    """Width and height of the original."""
    assert Answer.unpack(Answer.of_pixels(Dimensions(40, 20)).pack(), _LIMITS) == Answer(0, 40, 20, 0)


@given(st.binary(max_size=3 * MAX_TEXT_BYTES))
def test_untrusted_text_is_one_printable_line(text: bytes) -> None:
    """No control character, no direction mark, no endless text."""
    assert printable(text).isprintable()
    assert len(printable(text)) <= MAX_TEXT_BYTES


def test_an_error_of_another_code_is_a_damaged_image() -> None:
    """A decoder can only refuse."""
    assert _round_trip(ImageRefused("x", code="access_denied")).code == "corrupt_image"


def test_the_end_of_a_process_passes() -> None:
    """Signal or exit code."""
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    ended = Ended.of(os.waitpid(pid, 0)[1])
    assert Ended.unpack(ended.pack()) == Ended(signal.SIGKILL, 0)
