"""The paths in CONTRIBUTING.md exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_TABLE = (ROOT / "CONTRIBUTING.md").read_text().split("## To change X, go to Y", 1)[1]
_ROWS = [line for line in _TABLE.splitlines() if line.startswith("| ")][1:]


def _paths(row: str) -> list[str]:
    """The code spans in the form of paths, of the second column."""
    spans = re.findall(r"`([^`]+)`", row.split("|")[2])
    return [span for span in spans if re.search(r"[/.]", span) and " " not in span]


def test_at_least_twenty_changes_have_their_place() -> None:
    """Each line of the table names a path."""
    rows = [row for row in _ROWS if not row.startswith("|---")]
    assert len(rows) >= 20
    assert all(_paths(row) for row in rows)


def test_each_path_of_the_table_exists() -> None:
    """Each path of the table exists, also after a move of files."""
    paths = [path for row in _ROWS for path in _paths(row) if not path.startswith("[")]
    assert [path for path in paths if not (ROOT / path).exists()] == []
