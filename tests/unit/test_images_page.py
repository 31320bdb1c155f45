"""docs/images.md is made from the corpus that the tests use."""

from pathlib import Path

from tests.corpus.expected import Refused
from tests.corpus.table import CASES
from tools.images_page import codes, merged, page

_ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_corpus_prints() -> None:
    """The page in docs/ equals the output of `make images-page`."""
    assert (_ROOT / "docs" / "images.md").read_text() == page()


def test_the_page_has_each_refused_file_and_each_code() -> None:
    """Each refused file is a row with its words, and the page explains exactly the codes of refused files."""
    text = page()
    refused = [(case, case.right) for case in CASES if isinstance(case.right, Refused)]
    assert all(f"| {case.topic} | {case.what} | {right.words} |" in text for case, right in refused)
    assert {right.code for _, right in refused} == codes()


def test_descriptions_that_differ_in_a_number_are_one() -> None:
    """Equal descriptions are listed once; numbers are joined; other descriptions stay."""
    found = merged(["grey, 8 bits", "grey, 16 bits", "RGB", "RGB", "4:2:0", "4:4:4", "5 of 9", "grey, 8 bits"])
    assert found == ["grey, 8, 16 bits", "RGB", "4:2:0", "4:4:4", "5 of 9"]
