"""The Makefile's switches, by the commands of a dry run."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(["make", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("switch", "exits"), [("EXIT=1", True), ("EXIT=", False), ("EXIT=0", False)])
def test_the_demo_ends_by_itself_where_it_is_told_to(switch: str, exits: bool) -> None:
    """`make demo EXIT=1` runs `dropline demo --exit`."""
    commands = make("--dry-run", "demo", switch).stdout
    assert "/dropline demo" in commands
    assert ("dropline demo --exit" in commands) == exits


def test_the_demo_takes_a_model() -> None:
    """`make demo MODEL=base` runs `dropline demo --model base`; the default is the command's own."""
    assert "dropline demo --model base" in make("--dry-run", "demo", "MODEL=base").stdout
    assert "--model" not in make("--dry-run", "demo").stdout


@pytest.mark.parametrize(
    ("target", "installed", "extra"),
    [
        ("demo", [], "demo"),
        ("demo", [".installed-demo"], None),
        ("demo", [".installed"], None),
        ("unit", [], "dev"),
        ("unit", [".installed-demo"], "dev"),
        ("unit", [".installed"], None),
    ],
)
def test_a_target_installs_what_it_needs(
    tmp_path: Path, target: str, installed: list[str], extra: str | None
) -> None:
    """The demo installs the stack alone, unless all tools are there; no target installs twice."""
    for name in installed:
        (tmp_path / name).touch()
    commands = make("--dry-run", target, f"VENV={tmp_path}").stdout
    assert [each for each in ("demo", "dev") if f"--editable '.[{each}]'" in commands] == (
        [extra] if extra else []
    )


def test_testing_runs_every_check() -> None:
    """`make test` runs style, types, import arrows and all three kinds of tests."""
    commands = make("--dry-run", "test").stdout
    wanted = ("ruff check", "ruff format --check", "mypy", "lint-imports", "tests/unit", "tests/integration")
    assert all(command in commands for command in (*wanted, "tests/acceptance"))


def test_an_old_python_is_named(tmp_path: Path) -> None:
    """The error shows the version of an outdated interpreter, and the way to choose another."""
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo "Python 3.8.1"\nexit 1\n')
    old.chmod(0o755)
    done = make("install", f"PYTHON={old}", f"VENV={tmp_path / 'venv'}")
    assert done.returncode != 0
    assert "Python 3.8.1; try: make PYTHON=python3.12" in done.stderr


def test_without_a_target_it_explains_itself() -> None:
    """Plain `make` lists the targets, and has no effect."""
    assert "demo" in make().stdout
