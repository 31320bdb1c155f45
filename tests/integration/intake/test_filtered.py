"""Counts and notifications of filtered objects, with a real Postgres and a real Redis."""

import itertools
from typing import Any

import psycopg
import pytest
from flask import Flask
from sqlalchemy import text

from db.filtered import FilteredSum, count, parse_filtered, sums, was_counted
from db.session import Database
from dropline.contract import FILTERED_CHANNEL, FilteredNotice, FilterReason, ObjectVersion
from tests.support.deliveries import BUCKET, GENERATION, push
from tests.support.function import deliver, deliver_all
from tests.support.intake import Queue

CONTENT_TYPE, AUXILIARY = FilterReason.CONTENT_TYPE, FilterReason.AUXILIARY


def test_filtered_objects_are_counted_by_rule(app: Flask, rows: Any, queue: Queue, counts: Any) -> None:
    """Each delivery of a filtered object is counted; other event types are not; no row and no message is made."""
    deliveries = [
        *[push(f"{number}.html", contentType="text/html") for number in range(3)],
        push("0.html", contentType="text/html"),
        push(".gcsfuse_tmp/1", contentType="application/octet-stream"),
        push("photos/", size="0"),
        push("x.txt", event_type="OBJECT_METADATA_UPDATE", contentType="text/html"),
    ]
    assert {deliver(app, delivery).status_code for delivery in deliveries} == {204}
    assert counts() == {
        ("content_type", "DROPLINE_EVENTS__CONTENT_TYPES"): 4,
        ("auxiliary", "DROPLINE_EVENTS__AUXILIARY"): 1,
        ("folder_placeholder", "fixed rule"): 1,
    }
    assert (rows(), queue.messages()) == ([], [])


def test_a_hundred_filtered_objects_at_once(app: Flask, counts: Any, database_url: str) -> None:
    """Simultaneous events of one rule are all counted, in a bounded number of rows without object names."""
    deliveries = [push(f"{number}.html", contentType="text/html") for number in range(100)]
    assert set(deliver_all(app, deliveries)) == {204}
    assert sum(counts().values()) == 100
    with psycopg.connect(database_url) as connection:
        found = connection.execute("SELECT count(*), string_agg(to_json(f)::text, '') FROM filtered_events f")
        ((number_of_rows, content),) = found
    assert 1 <= number_of_rows <= 8
    assert ".html" not in content


@pytest.mark.parametrize("name", ["猫.html", "\x07" * 1024, "é" * 512, "🐈" * 256, "../x'\"\\"], ids=range(5))
def test_a_filtered_object_is_notified(app: Flask, database_url: str, name: str) -> None:
    """Listeners get any object name byte for byte, with generation, rule and setting."""
    with psycopg.connect(database_url, autocommit=True) as ear:
        ear.execute(f"LISTEN {FILTERED_CHANNEL}".encode())
        assert deliver(app, push(name, contentType="text/html")).status_code == 204
        (notify,) = itertools.islice(ear.notifies(timeout=60), 1)
    version = ObjectVersion(BUCKET, name, GENERATION)
    assert parse_filtered(notify.payload) == FilteredNotice(version, CONTENT_TYPE, CONTENT_TYPE.setting)


def test_the_sums_of_seven_days(app: Flask, database: Database, database_url: str) -> None:
    """Today and the last seven days are summed by rule; older days are not."""
    for name in ("a.html", "b.html", ".DS_Store"):
        assert deliver(app, push(name, contentType="text/html")).status_code == 204
    with psycopg.connect(database_url) as connection:
        for days in (6, 7):
            connection.execute(
                "INSERT INTO filtered_events SELECT day - %s, bucket, reason, setting, slot, 10, last_at "
                "FROM filtered_events WHERE reason = 'auxiliary' AND day > current_date - 2",
                (days,),
            )
    with database.transaction() as session:
        found = sums(session)
    assert [(each.reason, each.today, each.last_7_days) for each in found] == [
        ("auxiliary", 1, 11),
        ("content_type", 2, 2),
    ]
    assert isinstance(found[0], FilteredSum)


def test_a_count_is_evidence_of_its_bucket_and_rule_only(
    app: Flask, database: Database, database_url: str
) -> None:
    """A count is found from its last event on, for the same bucket and rule."""
    assert deliver(app, push("a.html", contentType="text/html")).status_code == 204
    with psycopg.connect(database_url) as connection:
        ((last, later),) = connection.execute("SELECT last_at, last_at + interval '1 us' FROM filtered_events")
    with database.transaction() as session:
        assert was_counted(session, BUCKET, CONTENT_TYPE, last)
        assert not was_counted(session, BUCKET, CONTENT_TYPE, later)
        assert not was_counted(session, BUCKET, AUXILIARY, last)
        assert not was_counted(session, "other", CONTENT_TYPE, last)


def test_a_count_does_not_wait_for_the_disk(database: Database) -> None:
    """The transaction of a count commits asynchronously; the next one on the same connection does not."""
    modes = []
    for counts_first in (True, False):
        with database.transaction() as session:
            if counts_first:
                count(session, ObjectVersion(BUCKET, "a.html", 1), CONTENT_TYPE)
            modes.append(session.execute(text("SHOW synchronous_commit")).scalar_one())
    assert modes == ["off", "on"]
