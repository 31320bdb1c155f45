"""The steps of an ordinary image, counted by proxies before a real Postgres and a real Cloud Storage."""

import random
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from google.cloud.storage import Bucket
from sqlalchemy import Connection

from db.session import Database
from dropline.contract import ObjectVersion
from dropline.settings import EventSettings
from dropline.storage.encodings import Identity
from dropline.storage.objects import ObjectStore
from tests.support.captioning import PNG, SETTINGS, FakeCaptioner, InProcessDecoder
from tests.support.deliveries import push
from tests.support.function import deliver, serve
from tests.support.gcs_proxy import GcsProxy
from tests.support.intake import opened
from tests.support.round_trips import RoundTrips, counting
from tests.support.rows import history_of, redo, row_of, settings_of
from tests.support.script import Script
from tests.support.storage_rig import OURS, metadata_of, set_metadata, upload
from worker.pipeline import Pipeline

#: psycopg prepares a statement at its sixth execution, which takes one round trip more.
WARM = 7
MEASURED = 5


@pytest.fixture
def trips(database_url: str) -> Iterator[RoundTrips]:
    """A counting proxy before the test's database."""
    with counting(database_url) as running:
        yield running


@pytest.fixture
def app(trips: RoundTrips, redis_url: str, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function behind the counting proxy, for the test's bucket."""
    with opened(trips.url, redis_url, EventSettings(buckets=(bucket.name,))) as endpoint:
        yield serve(endpoint, monkeypatch)


def report(app: Flask, bucket: Bucket, name: str, metadata: dict[str, str] | None = None) -> ObjectVersion:
    """Upload an image, and deliver its event as Cloud Storage writes it."""
    version = upload(bucket, name, PNG, metadata)
    stored = Identity.of(PNG)
    facts: dict[str, Any] = {"size": str(stored.size_bytes), "md5Hash": stored.md5_hash, "metadata": metadata}
    event = push(name, version.generation, bucket=bucket.name, **facts)
    assert deliver(app, event).status_code == 204
    return version


def pipeline_of(
    database: Database, store: ObjectStore, model: tuple[str, str] | None = ("fake", "r0")
) -> Pipeline:
    """A worker's child whose decoder and engine are in this process.

    By default, the model is another one than that of the captions, so each image is looked up and none is copied.
    """
    script = Script()
    captioner = FakeCaptioner(script)
    captioner.model = model
    return Pipeline(
        database,
        store,
        InProcessDecoder(script),
        captioner,
        SETTINGS,
        claimed_by="test/1",
        wake=lambda _row_id: None,
        rng=random.Random(1),
    )


def test_an_ordinary_image_takes_one_and_three_round_trips_and_two_requests(
    app: Flask, trips: RoundTrips, store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """Function: the registration. Worker: claim, record, end of the write-back; a download and a PATCH."""
    with closing(Database.connect(settings_of(trips.url), "test")) as database:
        pipeline = pipeline_of(database, store)
        for number in range(WARM):
            report(app, bucket, f"warm-{number}.png")
            assert pipeline.run(number).words == "captioned"
        for number in range(MEASURED):
            trips.take()
            report(app, bucket, f"{number}.png", {"album": "holiday"})
            assert trips.take() == 1
            before = len(gcs_proxy.requests)
            assert pipeline.run(number).words == "captioned"
            assert trips.take() == 3
            assert [(seen.method, seen.is_download) for seen in gcs_proxy.requests[before:]] == [
                ("GET", True),
                ("PATCH", False),
            ]
            written = metadata_of(bucket, f"{number}.png")
            assert (written["album"], written["caption"]) == ("holiday", "a red half")


def test_a_redo_takes_three_round_trips_and_keeps_the_old_caption(
    app: Flask, trips: RoundTrips, store: ObjectStore, bucket: Bucket, connection: Connection
) -> None:
    """The record of the new caption puts the old one into the history, without another round trip."""
    with closing(Database.connect(settings_of(trips.url), "test")) as database:
        pipeline = pipeline_of(database, store)
        for number in range(1, WARM + 1):
            report(app, bucket, f"{number}.png")
            assert pipeline.run(number).words == "captioned"
        redo(connection, 1)
        trips.take()
        assert pipeline.run(1).words == "captioned"
        assert trips.take() == 3
    assert history_of(connection, 1) == ["a red half"]
    assert metadata_of(bucket, "1.png")["caption"] == "a red half"


def test_three_tasks_of_an_image_take_two_round_trips_more_and_no_request_more(
    app: Flask, trips: RoundTrips, store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """Function: one registration. Worker: one claim, a record for each task, one end of the write-back."""
    three = {"caption-task": "<CAPTION>, <OD>, <OCR>"}
    with closing(Database.connect(settings_of(trips.url), "test")) as database:
        pipeline = pipeline_of(database, store)
        for number in range(WARM):
            report(app, bucket, f"warm-{number}.png", three)
            assert pipeline.run(number).words == "captioned"
        trips.take()
        report(app, bucket, "a.png", three)
        assert trips.take() == 1
        before = len(gcs_proxy.requests)
        assert pipeline.run(0).words == "captioned"
        assert trips.take() == 5
        assert [(seen.method, seen.is_download) for seen in gcs_proxy.requests[before:]] == [
            ("GET", True),
            ("PATCH", False),
        ]


def test_a_copy_takes_three_round_trips_and_no_download(
    app: Flask, trips: RoundTrips, store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy, connection: Connection
) -> None:
    """The claim has the caption of identical bytes."""
    with closing(Database.connect(settings_of(trips.url), "test")) as database:
        pipeline = pipeline_of(database, store, model=("fake", "r1"))
        for number in range(WARM):
            report(app, bucket, f"warm-{number}.png")
            assert pipeline.run(number).words == "captioned"
        trips.take()
        report(app, bucket, "copy.png")
        assert trips.take() == 1
        before = len(gcs_proxy.requests)
        assert pipeline.run(0).words == "captioned"
        assert trips.take() == 3
        assert [seen.method for seen in gcs_proxy.requests[before:]] == ["PATCH"]
        assert metadata_of(bucket, "copy.png")["caption"] == "a red half"
        assert row_of(connection, WARM + 1)["copied_from"] == 1


def test_a_transaction_of_several_statements_takes_more(database_url: str) -> None:
    """Control: BEGIN and COMMIT are round trips of their own, and the proxy counts each."""
    with counting(database_url) as trips, closing(Database.connect(settings_of(trips.url), "test")) as database:
        database.check()
        trips.take()
        with database.transaction() as connection:
            connection.exec_driver_sql("SELECT 1")
        assert trips.take() == 3
        with database.statement() as connection:
            connection.exec_driver_sql("SELECT 1")
        assert trips.take() == 1


def test_metadata_changed_since_the_event_are_read_and_kept(
    app: Flask, trips: RoundTrips, store: ObjectStore, bucket: Bucket, connection: Connection
) -> None:
    """The first PATCH is refused by its precondition; a person's caption stays, and other keys stay too."""
    report(app, bucket, "theirs.png")
    set_metadata(bucket, "theirs.png", caption="Grandma, 1962")
    report(app, bucket, "edited.png", {"album": "old"})
    set_metadata(bucket, "edited.png", album="new")
    report(app, bucket, "copied.png", OURS)
    with closing(Database.connect(settings_of(trips.url), "test")) as database:
        for hint in (1, 2, 3):
            pipeline_of(database, store).run(hint)
    assert metadata_of(bucket, "theirs.png") == {"caption": "Grandma, 1962"}
    assert row_of(connection, 1)["error_code"] == "metadata_kept"
    assert metadata_of(bucket, "edited.png")["album"] == "new"
    assert metadata_of(bucket, "edited.png")["caption"] == "a red half"
    assert row_of(connection, 2)["metadata_written_at"] is not None
    assert row_of(connection, 3)["metageneration"] is None
    assert metadata_of(bucket, "copied.png")["caption"] == "a red half"
