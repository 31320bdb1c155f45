"""docs/reliability.md: each test that it names exists."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_each_named_test_exists() -> None:
    """A row names files, and mostly functions in them."""
    named = re.findall(r"`(tests/[\w/]+\.py)`(?: `(test_\w+)`)?", PAGE)
    assert len(named) > 50
    for file, function in named:
        assert f"def {function or 'test_'}" in (ROOT / file).read_text(), f"{file} {function}"
