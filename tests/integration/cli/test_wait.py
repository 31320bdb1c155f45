"""`dropline wait` with a real Postgres."""

import json
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.exit_codes import ExitCode
from cli.wait import CaptionWaiter
from db.reads import CaptionRecord
from db.session import Database
from dropline.contract import FilteredNotice, FilterReason, ObjectVersion
from dropline.storage.bucket import Storage
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from tests.support.rows import caption_object, caption_row, drop, fail_object, filter_object, settings_of, take
from tests.support.shell import BUCKET, G1, HOSTILE, SHOWN, run


def test_wait_prints_the_caption_alone(database: Database) -> None:
    """The caption alone is on standard output, for `$(dropline wait …)`."""
    caption_object(database, G1, HOSTILE)
    result = run("wait", G1.uri)
    assert (result.exit_code, result.stdout) == (ExitCode.OK, f"{SHOWN}\n")


def test_wait_without_a_generation_takes_the_one_in_the_bucket(image: Path, database: Database) -> None:
    """Rows of older generations are ignored."""
    uri = run("drop", image).stdout.strip()
    generation = int(uri.rpartition("#")[2])
    caption_object(database, ObjectVersion(BUCKET, "a.png", generation - 1), "older")
    caption_object(database, ObjectVersion(BUCKET, "a.png", generation), "live")
    assert run("wait", f"gs://{BUCKET}/a.png").stdout == "live\n"


def test_wait_for_an_object_that_is_not_there_is_told() -> None:
    """A missing object is one line of error and exit code 2."""
    result = run("wait", f"gs://{BUCKET}/nothing.jpg")
    assert result.exit_code == ExitCode.USAGE
    assert "nothing.jpg is not there" in result.stderr


def test_wait_tells_why_there_is_no_caption(database: Database) -> None:
    """A failed image has exit code 1, the reason on standard error, and an empty standard output."""
    fail_object(database, G1, "not_an_image", "looks like\x1b[2J PDF")
    result = run("wait", G1.uri)
    assert (result.exit_code, result.stdout) == (ExitCode.FAILED, "")
    assert r"is failed (not_an_image: looks like\x1b[2J PDF)" in result.stderr


def test_wait_for_several_shows_the_result_of_each(database: Database) -> None:
    """Several results are a table, and the worst result decides the exit code."""
    other = ObjectVersion(BUCKET, "b.jpg", 1)
    caption_object(database, G1)
    fail_object(database, other, "not_an_image", "PDF")
    result = run("wait", G1.uri, other.uri)
    assert result.exit_code == ExitCode.FAILED
    assert "a red circle" in result.stdout
    assert "not_an_image: PDF" in result.stdout
    documents = json.loads(run("wait", G1.uri, other.uri, "--json").stdout)
    assert {each["uri"]: each["status"] for each in documents} == {G1.uri: "captioned", other.uri: "failed"}


FILTERED = FilteredNotice(G1, "content_type", "DROPLINE_EVENTS__CONTENT_TYPES")


def test_a_filtered_object_ends_a_wait(database: Database, database_url: str) -> None:
    """The notification of the function ends the wait for exactly the filtered version."""
    found: list[FilteredNotice] = []
    with CaptionWaiter(settings_of(database_url)) as waiter:
        other = ObjectVersion(BUCKET, G1.name, G1.generation + 1)
        for version in (other, G1):
            filter_object(database, version, FilterReason.CONTENT_TYPE)
        unfinished = waiter.wait([G1], 120, lambda *_: pytest.fail("has no row"), found.append)
    assert (unfinished, found) == ({}, [FILTERED])


def test_a_row_is_stronger_than_a_filter(database: Database, database_url: str) -> None:
    """A late delivery under other settings does not end the wait for a row."""
    with CaptionWaiter(settings_of(database_url)) as waiter:
        with database.transaction() as connection:
            row_id = drop(connection, G1)
        filter_object(database, G1, FilterReason.CONTENT_TYPE)
        caption_row(database, row_id, "after all")
        ended: list[CaptionRecord] = []
        assert waiter.wait([G1], 120, lambda _, rows: ended.extend(rows), lambda _: pytest.fail("a row")) == {}
    assert [row.caption for row in ended] == ["after all"]


def test_wait_for_an_object_that_was_filtered_before(database: Database, gcs_server: GcsServer) -> None:
    """The settings and the function's counts agree: exit code 5 at once, with and without a generation."""
    version = upload(gcs_server, "page.html", "text/html")
    filter_object(database, version, FilterReason.CONTENT_TYPE)
    for uri in (version.uri, f"gs://{BUCKET}/page.html"):
        result = run("wait", uri, "--timeout", 120)
        assert (result.exit_code, result.stdout) == (ExitCode.FILTERED, "")
        assert result.stderr == (
            f"error: {version.uri} is filtered and gets no caption "
            "(content_type: the content type matches no glob of DROPLINE_EVENTS__CONTENT_TYPES)\n"
        )
    (document,) = json.loads(run("wait", version.uri, "--json", "--timeout", 120).stdout)
    assert (document["uri"], document["status"]) == (version.uri, "filtered")
    assert (document["reason"], document["setting"]) == ("content_type", "DROPLINE_EVENTS__CONTENT_TYPES")


def test_the_settings_of_a_shell_alone_filter_nothing(database: Database, gcs_server: GcsServer) -> None:
    """Without a count of that rule since the upload, the function may have other settings: the wait goes on."""
    filter_object(database, ObjectVersion(BUCKET, "before.html", 1), FilterReason.CONTENT_TYPE)
    version = upload(gcs_server, "page.html", "text/html")
    filter_object(database, ObjectVersion(BUCKET, "b", 1), FilterReason.EXCLUDED)
    filter_object(database, ObjectVersion("other", "b", 1), FilterReason.CONTENT_TYPE)
    result = run("wait", version.uri, "--timeout", 0.2)
    assert result.exit_code == ExitCode.TIMED_OUT
    assert "has no row" in result.stderr


def test_wait_survives_a_storage_that_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a generation, Cloud Storage is optional: without an answer the wait goes on."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_ports(1)[0]}")
    assert run("wait", G1.uri, "--timeout", 0.2).exit_code == ExitCode.TIMED_OUT


def upload(server: GcsServer, name: str, content_type: str) -> ObjectVersion:
    """Make an object by another client."""
    blob = Storage.on_emulator(server.url, "test")._client.bucket(BUCKET).blob(name)
    blob.upload_from_string(b"<html>", content_type=content_type)
    return ObjectVersion(BUCKET, name, int(blob.generation))


def test_wait_times_out(database: Database) -> None:
    """A timeout during an attempt is exit code 124."""
    with database.transaction() as connection:
        take(connection, drop(connection, G1))
    result = run("wait", G1.uri, "--timeout", 0.2)
    assert result.exit_code == ExitCode.TIMED_OUT
    assert "still running" in result.stderr


def test_a_wait_survives_a_lost_connection(database: Database, database_url: str) -> None:
    """Changes without a listener are read from the table after the reconnection."""
    ended: list[CaptionRecord] = []
    with CaptionWaiter(settings_of(database_url)) as waiter:
        with database.transaction() as connection:
            hang_up(database, "dropline-wait")
            row_id = drop(connection, G1)
        caption_row(database, row_id, "after all")
        assert waiter.wait([G1], 120, lambda _, rows: ended.extend(rows)) == {}
    assert [row.caption for row in ended] == ["after all"]


def hang_up(database: Database, application: str) -> None:
    """Close the connection of a client, like a restart of Postgres."""
    with database.transaction() as connection:
        ended = connection.execute(
            text("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = :name"),
            {"name": application},
        )
        assert ended.scalar() == 1
