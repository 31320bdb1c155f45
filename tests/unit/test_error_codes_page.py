"""docs/error-codes.md names every error code of a row."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from dropline.errors import ObjectGone, PermanentError, TransientError

_PAGE = Path("docs/error-codes.md").read_text()
#: Codes of errors raised before a row exists, and of base classes.
_NEVER_IN_A_ROW = {"permanent", "transient", "invalid_event", "unknown_delivery", "foreign_bucket"}


def _kinds(kind: type[Exception]) -> Iterator[type[Exception]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _kinds(child)


def _codes() -> set[str]:
    kinds = [*_kinds(PermanentError), *_kinds(TransientError), ObjectGone]
    found = {str(getattr(kind, "default_code", "")) for kind in kinds if kind.__module__ == "dropline.errors"}
    for room in ("worker", "trigger_fn", "dropline"):
        for path in Path(room).rglob("*.py"):
            found |= set(re.findall(r'\bcode="([a-z_]+)"', path.read_text()))
    return found - _NEVER_IN_A_ROW


@pytest.mark.parametrize("code", sorted(_codes()))
def test_the_page_explains_the_code(code: str) -> None:
    """Every error code of a row is on the page."""
    assert f"`{code}`" in _PAGE
