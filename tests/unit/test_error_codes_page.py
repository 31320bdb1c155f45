"""docs/error-codes.md has exactly the error codes that a row can have, as the code produces them."""

import re
from pathlib import Path

import pytest

from tests.support.error_codes import codes_in_the_source, codes_of_classes

_PAGE = (Path(__file__).resolve().parents[2] / "docs" / "error-codes.md").read_text()
#: Codes of errors raised before a row exists, and of base classes.
_NEVER_IN_A_ROW = {
    "permanent",
    "transient",
    "invalid_event",
    "unknown_delivery",
    "foreign_bucket",
    "invalid_caption_id",
}
_PRODUCED = codes_of_classes() | codes_in_the_source()


def _listed() -> set[str]:
    """The codes in the first column of the page's tables."""
    cells = re.findall(r"^\| (`[^|]*) \|", _PAGE, re.MULTILINE)
    return {code for cell in cells for code in re.findall(r"`([a-z_]+)`", cell)}


@pytest.mark.parametrize("code", sorted(_PRODUCED - _NEVER_IN_A_ROW))
def test_the_page_explains_the_code(code: str) -> None:
    """Every error code of a row is in a table of the page."""
    assert code in _listed()


def test_the_page_has_no_other_codes() -> None:
    """The page lists no code that the code cannot produce, and no code that is never in a row."""
    assert _listed() - _PRODUCED == set()
    assert _listed() & _NEVER_IN_A_ROW == set()
    assert _PRODUCED >= _NEVER_IN_A_ROW


def test_codes_are_found_in_every_form() -> None:
    """By keyword, by place, by a constant's name, as a returned pair, and as the default of a class."""
    source = codes_in_the_source()
    assert {"not_an_image", "worker_lost", "repetitive_answer", "internal_error"} <= source
    assert {"storage_unavailable", "object_gone"} <= codes_of_classes()
