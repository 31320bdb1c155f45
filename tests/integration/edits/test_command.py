"""`dropline edit`, with real Postgres and Redis."""

import json
from dataclasses import replace
from typing import Any

import pytest
import redis
from sqlalchemy import text

from cli import edit as command
from cli.exit_codes import ExitCode
from db.session import Database
from dropline.contract import CAPTION_QUEUE, TaskRequest
from tests.support.rows import G1, G2, caption_object, caption_row, drop, fail_object
from tests.support.shell import run

URI = f"gs://{G1.bucket}/{G1.name}"


@pytest.fixture(autouse=True)
def as_the_function(monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, own_logging: None) -> None:
    """Environment variables of the function, and of a person."""
    monkeypatch.setenv("DROPLINE_DATABASE__URL", database_url)
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("LOGNAME", "ana")


def edited(*arguments: str) -> dict[str, Any]:
    """The JSON of an edit that succeeds."""
    result = run("edit", *arguments, "--json")
    assert result.exit_code == ExitCode.OK, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def messages(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        return int(client.llen(CAPTION_QUEUE))


def test_an_edit_is_saved_and_a_worker_woken(database: Database, redis_url: str) -> None:
    """By the user of the machine; again, it changes nothing and sends its message again; then it is reverted."""
    row_id = caption_object(database, G1)
    first = edited(URI, "Grandma, 1962")
    assert (first["id"], first["caption"], first["edited_by"]) == (row_id, "Grandma, 1962", "ana")
    assert (first["uri"], first["changed"], messages(redis_url)) == (f"{URI}#1", True, 1)
    assert not edited(URI, "Grandma, 1962", "--by", "Bob")["changed"]
    assert messages(redis_url) == 2
    reverted = edited(URI, "--revert")
    assert (reverted["caption"], reverted["edited_by"], reverted["reverted_by"]) == ("a red circle", None, "ana")
    assert not edited(URI, "--revert")["changed"]


def test_generation_task_and_name_are_given(database: Database) -> None:
    """The answer to another task, of another generation, by another person."""
    with database.transaction() as connection:
        row_id = drop(connection, G1, TaskRequest.parse("ocr"))
    caption_row(database, row_id, "ST0P")
    caption_object(database, G2)
    found = edited(f"{URI}#1", "STOP", "--task", "ocr", "--by", "Bob\x07 B.")
    assert (found["id"], found["caption"], found["edited_by"]) == (row_id, "STOP", "Bob  B.")


def test_people_read_a_table_and_what_follows(database: Database) -> None:
    """The row, and a note where nothing changed, or where the model has to make a caption first."""
    fail_object(database, G1, "invalid_image", "no image")
    shown = run("edit", URI, "Grandma, 1962")
    assert "Grandma, 1962" in shown.output
    assert "ana" in shown.output
    assert "nothing changed" in run("edit", URI, "Grandma, 1962").output
    assert "a worker makes one" in run("edit", URI, "--revert").output


def test_the_latest_edits_are_shown(database: Database) -> None:
    """The latest first; the model's captions, and those of the objects' metadata, are left out."""
    assert "no caption of a person" in run("edits").output
    others = [replace(G1, name=name) for name in ("model.jpg", "own.jpg", "older.jpg")]
    for version in (G1, *others):
        caption_object(database, version)
    with database.transaction() as connection:
        adopt = "UPDATE captions SET edited_by = 'object metadata', edited_at = now() WHERE object_name = :name"
        connection.execute(text(adopt), {"name": "own.jpg"})
    # Without a caption of the model, a reverted edit stays until there is one.
    edited(f"gs://{G1.bucket}/own.jpg", "Uncle, 1963")
    assert run("edit", f"gs://{G1.bucket}/own.jpg", "--revert").exit_code == 0
    edited(f"gs://{G1.bucket}/older.jpg", "Grandpa, 1961", "--by", "Bob")
    edited(URI, "Grandma, 1962")
    found = json.loads(run("edits", "--json").stdout)
    assert [(row["caption"], row["edited_by"]) for row in found] == [
        ("Grandma, 1962", "ana"),
        ("Grandpa, 1961", "Bob"),
    ]
    shown = run("edits", "--limit", "1").stdout
    assert "Grandma, 1962" in shown
    assert "Grandpa" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((URI,), "give the new caption, or --revert"),
        ((URI, "x", "--revert"), "give the new caption, or --revert"),
        ((URI, ""), "the caption is empty"),
        ((URI, "a\x00b"), "U+0000"),
        ((URI, "a\udcffb"), "U+DCFF"),
        ((URI, "x" * 8193), "8193 bytes of UTF-8: shorten it to 8192"),
        ((URI, "x"), "gets its row by `dropline backfill`"),
        (("a.jpg", "x"), "is not the URI of an object"),
        ((URI, "x", "--task", "nothing"), "is not a task"),
    ],
)
def test_what_cannot_be_edited_is_a_wrong_command_line(
    database: Database, arguments: tuple[str, ...], words: str
) -> None:
    """One line with the reason and the remedy."""
    result = run("edit", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert words in result.stderr


def test_without_redis_the_edit_is_saved(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says so; a worker finds the row."""
    caption_object(database, G1)
    monkeypatch.setenv("DROPLINE_BROKER__URL", "redis://127.0.0.1:1")
    result = run("edit", URI, "Grandma, 1962")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert "the change is saved" in result.stderr
    with database.transaction() as connection:
        assert connection.exec_driver_sql("SELECT caption FROM captions").scalar_one() == "Grandma, 1962"


def test_a_user_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container with a number as its user."""

    def fail() -> str:
        raise OSError("no username")

    monkeypatch.setattr("getpass.getuser", fail)
    assert command._user().startswith("user ")
