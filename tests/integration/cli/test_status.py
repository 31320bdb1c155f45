"""`dropline status` with a real Postgres and Redis."""

import json

import pytest
from redis import Redis
from sqlalchemy import text

from cli.exit_codes import ExitCode
from db import reads, workers
from db.session import Database
from db.workers import NewWorker
from dropline.broker.workers import new_worker_name
from dropline.contract import CAPTION_QUEUE, FilterReason, ObjectVersion
from local_emulators.ports import free_ports
from tests.support.rows import caption_object, drop, fail_object, filter_object, redo
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
    assert (document["workers"]["state"], document["workers"]["newest"]) == ("not_known", None)


def test_status_counts_rows_to_redo(database: Database) -> None:
    """They are `captioned` all the time."""
    ids = [caption_object(database, ObjectVersion(BUCKET, f"{number}.jpg", 1)) for number in range(3)]
    assert "captioned again" not in run("status").stdout
    with database.transaction() as connection:
        for row_id in ids[:2]:
            redo(connection, row_id)
    document = json.loads(run("status", "--json").stdout)
    assert (document["rows"]["captioned"], document["to_redo"]) == (3, 2)
    assert "2 of the captioned rows are to be captioned again" in run("status").stdout


def test_a_count_that_has_ended_is_marked(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table may have many millions of rows: `2+` for people, and the limit in the JSON."""
    monkeypatch.setattr(reads, "MOST_COUNTED", 2)
    for number in range(3):
        fail_object(database, ObjectVersion(BUCKET, f"{number}.jpg", 1), "not_an_image", "PDF")
    document = json.loads(run("status", "--json").stdout)
    assert (document["rows"]["failed"], document["failures"][0]["rows"], document["counted_to"]) == (2, 2, 2)
    assert "2+" in run("status").stdout


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
    assert json.loads(result.stdout)["workers"]["state"] == "not_known"


def test_status_shows_alive_workers_and_the_newest(
    database: Database, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The newest worker is alive, lost after a kill, or has the time of its end."""
    monkeypatch.setenv("DROPLINE_BROKER__URL", redis_url)
    worker = NewWorker(new_worker_name(), "host-1", HOSTILE, "sha256-1", "cuda:0", 32)
    with database.transaction() as connection:
        workers.insert(connection, worker, 0.0)
    with Redis.from_url(redis_url, client_name=worker.name) as client:
        client.ping()
        document = json.loads(run("status", "--json").stdout)["workers"]
        assert (document["state"], document["alive"], document["newest"]["alive"]) == ("alive", 1, True)
        assert (document["newest"]["device"], document["newest"]["stopped_at"]) == ("cuda:0", None)
        shown = run("status").stdout
    assert "1 worker is alive" in shown
    assert "host-1" in shown
    assert "\x1b[2J" not in shown
    shown = run("status").stdout
    assert "no worker is alive" in shown
    assert "lost" in shown
    with database.transaction() as connection:
        workers.set_stopped(connection, worker.name)
    assert "lost" not in run("status").stdout
    newest = json.loads(run("status", "--json").stdout)["workers"]["newest"]
    assert (newest["alive"], newest["stopped_at"] > newest["started_at"]) == (False, True)
