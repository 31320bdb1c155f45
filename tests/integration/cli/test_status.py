"""`dropline status` with a real Postgres and Redis."""

import json

import pytest
from sqlalchemy import text

from cli.exit_codes import ExitCode
from db.session import Database
from dropline.contract import CAPTION_QUEUE, FilterReason, ObjectVersion
from local_emulators.ports import free_ports
from tests.support.rows import caption_object, drop, fail_object, filter_object
from tests.support.shell import BUCKET, G1, HOSTILE, SHOWN, run


def test_status_counts(database: Database) -> None:
    """The JSON has rows by status, failures by reason, the oldest queued row and the rate; `queues` is null."""
    caption_object(database, G1)
    fail_object(database, ObjectVersion(BUCKET, "b.jpg", 1), "not_an_image", "PDF")
    fail_object(database, ObjectVersion(BUCKET, "c.jpg", 1), "not_an_image", "PDF")
    with database.transaction() as connection:
        row_id = drop(connection, ObjectVersion(BUCKET, "d.jpg", 1))
        connection.execute(
            text("UPDATE captions SET queued_at = now() - interval '1h' WHERE id = :id"), {"id": row_id}
        )
    document = json.loads(run("status", "--json").stdout)
    assert document["rows"] == {
        "queued": 1,
        "running": 0,
        "captioned": 1,
        "failed": 2,
        "superseded": 0,
        "deleted": 0,
    }
    assert document["failures"] == [{"error_code": "not_an_image", "rows": 2, "example": "PDF"}]
    assert document["filtered"] == []
    assert document["oldest_queued_s"] > 3599
    assert document["captions_per_minute"] == 0.2
    assert document["queues"] is None


def test_status_for_people(database: Database) -> None:
    """Without `--json` the output is tables, with escaped error messages."""
    fail_object(database, G1, "not_an_image", HOSTILE)
    result = run("status")
    assert result.exit_code == ExitCode.OK
    assert SHOWN in result.stdout
    assert "0.0 captions per minute over the last 5 minutes" in result.stdout


def test_status_shows_filtered_events(database: Database) -> None:
    """Events of filtered objects are counted by rule and setting, over all buckets."""
    for version in (G1, G1, ObjectVersion("other", "x", 1)):
        filter_object(database, version, FilterReason.AUXILIARY)
    filter_object(database, G1, FilterReason.FOLDER_PLACEHOLDER)
    found = json.loads(run("status", "--json").stdout)["filtered"]
    assert [(each["reason"], each["setting"], each["today"], each["last_7_days"]) for each in found] == [
        ("auxiliary", "DROPLINE_EVENTS__AUXILIARY", 3, 3),
        ("folder_placeholder", "fixed rule", 1, 1),
    ]
    assert "DROPLINE_EVENTS__AUXILIARY" in run("status").stdout


def test_status_shows_the_queue(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a configured Redis, the output has the length of the captions queue."""
    from redis import Redis

    with Redis.from_url(redis_url) as client:
        client.lpush(CAPTION_QUEUE, "one", "two")
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    assert json.loads(run("status", "--json").stdout)["queues"][CAPTION_QUEUE] == 2
    assert f"{CAPTION_QUEUE} 2" in run("status").stdout


def test_status_without_redis_counts_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an unreachable Redis, rows are counted; the queue is an error, and the exit code is 4."""
    monkeypatch.setenv("DROPLINE_BROKER__URL", f"redis://127.0.0.1:{free_ports(1)[0]}/0")
    result = run("status", "--json")
    assert result.exit_code == ExitCode.UNAVAILABLE
    assert json.loads(result.stdout)["rows"]["queued"] == 0
    assert "cannot read the queue on Redis" in result.stderr
