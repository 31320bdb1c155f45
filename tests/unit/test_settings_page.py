"""docs/settings.md is complete and equals the code."""

from pathlib import Path

from dropline.settings import variables
from tools.settings_page import page

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_is_what_the_settings_print() -> None:
    """The page in docs/ equals the output of `make settings-page`."""
    assert (ROOT / "docs" / "settings.md").read_text() == page()


def test_every_variable_is_on_the_page_with_its_meaning() -> None:
    """Every setting is on the page, with a name, a default and a description."""
    rows = [line for line in page().splitlines() if line.startswith("| `")]
    assert len(rows) == len(list(variables()))
    for (name, _, description), row in zip(variables(), rows, strict=True):
        assert description
        assert row.startswith(f"| `{name}` | ")
        assert row.endswith(f" | {description} |")
