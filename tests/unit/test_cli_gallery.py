"""`dropline gallery token`: what it prints, and what it stores."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from gallery.access import Scope, TokenEntry, digest_of


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    result = CliRunner().invoke(app, ["gallery", *arguments])
    return result.exit_code, result.stdout, result.stderr


def test_a_token_is_printed_once_and_stored_hashed(tmp_path: Path) -> None:
    """The file gets entries that the gallery reads, and is closed to other users."""
    file = tmp_path / "tokens"
    tokens = []
    for name, scopes in (("ci", ["--scope", "submit", "--scope", "read"]), ("reader", [])):
        code, out, _ = run("token", name, *scopes, "--file", str(file))
        assert code == 0
        tokens.append(out.strip())
    entries = [TokenEntry.parse(line) for line in file.read_text().splitlines()]
    assert [entry.digest for entry in entries] == [digest_of(token) for token in tokens]
    assert [entry.scopes for entry in entries] == [{Scope.READ, Scope.SUBMIT}, {Scope.READ}]
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_entry_has_a_line_of_its_own(tmp_path: Path) -> None:
    """Also in a file whose last line has no end: the gallery could read neither entry."""
    file = tmp_path / "tokens"
    first = str(TokenEntry("first", frozenset({Scope.READ}), digest_of("a")))
    file.write_text(first)
    assert run("token", "ci", "--file", str(file))[0] == 0
    lines = file.read_text().splitlines()
    assert (lines[0], TokenEntry.parse(lines[1]).name) == (first, "ci")


def test_the_entry_is_printed_without_a_file() -> None:
    """For the variable with the tokens."""
    code, out, error = run("token", "ci")
    assert code == 0
    assert f"ci:read:{digest_of(out.strip())}" in error.replace("\n", "")
    document = json.loads(run("token", "ci", "--scope", "edit", "--json")[1])
    assert TokenEntry.parse(document["entry"]).digest == digest_of(document["token"])


@pytest.mark.parametrize(
    "arguments", [("token",), ("token", "a b"), ("token", "a:b"), ("serve", "ci"), ("token", "a", "--file", "/")]
)
def test_wrong_command_lines(arguments: tuple[str, ...]) -> None:
    """Exit code 2."""
    assert run(*arguments)[0] == 2
