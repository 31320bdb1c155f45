"""Words of the page: each task and status has a name, each error of a row has advice, and durations are short."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from db.redrivable import FAILED_ROWS
from dropline.contract import Status, TaskPrompt
from gallery.words import STATUSES, TASKS, advice_for, duration_words, is_redrive_offered, size_words

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "error-codes.md").read_text()
_OF_FAILED_ROWS = _PAGE.partition("## The write-back")[0]


def codes_of_failed_rows() -> dict[str, str]:
    """The codes of docs/error-codes.md that a failed row can have, with the rest of their lines."""
    found: dict[str, str] = {}
    for cell, rest in re.findall(r"^\| (`[^|]*) \|(.*)$", _OF_FAILED_ROWS, re.MULTILINE):
        if "in logs only" not in rest:
            found |= dict.fromkeys(re.findall(r"`([a-z_]+)`", cell), rest)
    return found


def test_every_task_and_status_has_a_name() -> None:
    """No page shows a value of the code in place of a word."""
    assert set(TASKS) == set(TaskPrompt)
    assert set(STATUSES) == set(Status)


@pytest.mark.parametrize("code", sorted(codes_of_failed_rows()))
def test_every_error_of_a_failed_row_has_advice(code: str) -> None:
    """The page says what to do, and does not offer to try again what the error codes' page calls hopeless."""
    advice = advice_for(code)
    assert advice != advice_for("of another release")
    hopeless = "| never" in codes_of_failed_rows()[code]
    assert is_redrive_offered(code) is not hopeless


def test_rows_that_are_never_redriven_have_no_button() -> None:
    """The page follows the operation."""
    assert not any(map(is_redrive_offered, FAILED_ROWS.excluded_codes))
    assert is_redrive_offered("worker_lost")
    assert is_redrive_offered(None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-3, "0.0 s"),
        (0.26, "0.3 s"),
        (12.4, "12 s"),
        (99, "99 s"),
        (240, "4 min"),
        (10_800, "3 h"),
        (200_000, "2 days"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    """One unit, two digits."""
    assert duration_words(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(("size", "words"), [(0, "0 bytes"), (34_400, "34 kB"), (2_100_000, "2.1 MB")])
def test_sizes(size: int, words: str) -> None:
    """Decimal units, as the settings have them."""
    assert size_words(size) == words
