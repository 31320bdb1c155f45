"""The next commands printed by `dropline up` and `dropline demo` work in the user's shell."""

import sys
from pathlib import Path

import pytest

from cli.up import drop_lines, earlier_rows_line, sample_directory, shell_word
from local_emulators.options import StackOptions
from local_emulators.stack import Stack

SAMPLE = sample_directory() / "purple-star.png"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a virtual environment in `.venv`, which is not on PATH."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name in ("python", "gsutil", "dropline"):
        (programs / name).touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return programs


@pytest.mark.usefixtures("environment")
def test_programs_that_are_not_on_path_are_named_with_their_place() -> None:
    """Neither `gsutil` nor `dropline` of a checkout is on PATH."""
    assert drop_lines(Path.cwd() / ".local" / "env") == [
        "source .local/env",
        f".venv/bin/gsutil cp {SAMPLE} gs://$DROPLINE_BUCKET/",
        f".venv/bin/dropline drop {SAMPLE} --wait",
    ]
    assert SAMPLE.exists()


def test_programs_on_path_are_named_alone(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the virtual environment activated, the bare name is enough."""
    monkeypatch.setenv("PATH", str(environment))
    assert shell_word("gsutil") == "gsutil"


def test_a_missing_program_keeps_its_name(environment: Path) -> None:
    """Without gsutil the bare name is printed, as the program to install."""
    (environment / "gsutil").unlink()
    assert shell_word("gsutil") == "gsutil"


@pytest.mark.usefixtures("environment")
def test_places_elsewhere_are_whole_and_quoted() -> None:
    """A directory with a space survives the shell."""
    assert drop_lines(Path("/var/a b/env"))[0] == "source '/var/a b/env'"


@pytest.mark.parametrize(
    ("rows", "database_url", "words"),
    [
        (0, None, ""),
        (1, None, "1 row of an earlier start has no object"),
        (20, None, "20 rows of an earlier start have no object"),
        (20, None, "To begin without them: stop, and remove .local"),
        (20, "postgresql://h/d", "To begin without them: use another database"),
    ],
)
@pytest.mark.usefixtures("environment")
def test_rows_without_an_object_are_told(rows: int, database_url: str | None, words: str) -> None:
    """With the way to begin without them; a database of one's own is not in the directory."""
    stack = Stack(StackOptions(port_base=20_000, database_url=database_url))
    stack.earlier_rows = rows
    assert words in earlier_rows_line(stack)
    assert bool(earlier_rows_line(stack)) is (rows > 0)
