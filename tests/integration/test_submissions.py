"""Submissions over real Postgres, Redis and Cloud Storage: uploads, and requests for objects that exist."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.engine import make_url

from db import object_rows
from db.redrivable import RowFilter
from db.session import Database
from dropline import caption_id
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest
from dropline.deadline import Deadline
from dropline.errors import (
    BrokerUnavailable,
    ClientError,
    ForeignBucket,
    ImageRefused,
    InvalidTask,
    KeyReused,
    ObjectFiltered,
    ObjectMissing,
)
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, Settings
from dropline.storage.bucket import Storage
from local_emulators import gcs
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from operations.redrive import FAILED, UNWRITTEN, open_redriver
from operations.submit import Rows, Submissions, Submitted, open_submissions
from tests.support.gcs_proxy import serve
from tests.support.redrives import enqueued, ignore, leave_unwritten
from tests.support.rows import drop, fail_object, finish_write_back, record, row_of, take

CAPTION, DETECTION = TaskRequest.parse("caption"), TaskRequest.parse("od")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def settings(database_url: str, redis_url: str, gcs_server: GcsServer) -> Settings:
    """The settings of a command, with a new bucket."""
    bucket = f"submit-{make_url(database_url).database}".replace("_", "-")
    gcs.create_bucket(gcs_server.url, "test", bucket)
    return Settings(
        storage_emulator_host=gcs_server.url,
        bucket=bucket,
        database=DatabaseSettings(url=SecretStr(database_url)),
        broker=BrokerSettings(url=SecretStr(redis_url)),
        events=EventSettings(buckets=(bucket,), exclude=("private/**",), max_size_bytes=100),
    )


@pytest.fixture
def submissions(settings: Settings) -> Iterator[Submissions]:
    """Submissions, opened like those of the command."""
    with open_submissions(settings, ignore) as found:
        yield found


def upload(submissions: Submissions, data: bytes = PNG, name: str = "", **options: Any) -> Submitted:
    return submissions.upload(data, name=name, deadline=Deadline.after(120), **options)


def blob_of(settings: Settings, version: ObjectVersion) -> Any:
    """The object, as the library reads it."""
    blob = Storage.connect(settings)._client.bucket(version.bucket).get_blob(version.name)
    assert blob.generation == version.generation
    return blob


def put(settings: Settings, name: str = "a.png", task: str | None = None, data: bytes = PNG) -> str:
    """Put an object into the bucket, as gsutil does: its URI without the generation."""
    blob = Storage.connect(settings)._client.bucket(settings.bucket).blob(name)
    blob.metadata = None if task is None else {"caption-task": task}
    blob.upload_from_string(data, "image/png")
    return f"gs://{settings.bucket}/{name}"


def test_an_upload_is_an_object_as_any_drop(submissions: Submissions, settings: Settings) -> None:
    """The object has a name of its own below the prefix, type and task; its event will make the row."""
    found = upload(submissions, name="/home/ana/b\x1b[2J each.png", task=DETECTION)
    assert (found.task, found.status) == (DETECTION, Status.QUEUED)
    assert caption_id.decode(found.id) == (found.version, found.task)
    assert re.fullmatch(r"submitted/[0-9a-f]{32}/b\[2J each\.png", found.version.name)
    blob = blob_of(settings, found.version)
    assert (blob.content_type, blob.metadata) == ("image/png", {"caption-task": "<OD>"})
    assert blob.download_as_bytes() == PNG
    other = upload(submissions, name="b.png")
    assert other.version.name != found.version.name
    assert (other.task, blob_of(settings, other.version).metadata) == (CAPTION, None)


@pytest.mark.parametrize(
    ("name", "stated", "stored"),
    [
        ("a.jpg", None, "image/jpeg"),
        ("a", "image/webp", "image/webp"),
        ("a.html", "text/html", "application/octet-stream"),
        ("a.png", "text/html", "image/png"),
        ("a.svg", "image/svg+xml", "application/octet-stream"),
        ("a.png", "IMAGE/SVG+XML; charset=utf-8", "image/png"),
        ("a", "image/png\r\nX-Other: 1", "application/octet-stream"),
        ("", None, "application/octet-stream"),
    ],
)
def test_the_type_of_an_upload_is_that_of_an_image_or_of_bytes(
    submissions: Submissions, settings: Settings, name: str, stated: str | None, stored: str
) -> None:
    """No upload gets a type that a browser would run; the bytes decide later."""
    found = upload(submissions, name=name, content_type=stated)
    assert blob_of(settings, found.version).content_type == stored


@pytest.mark.parametrize("name", ["..", "/", ".DS_Store", "\n", "a/b\\..", "\ud800"])
def test_any_name_of_a_file_can_be_uploaded(submissions: Submissions, name: str) -> None:
    """A name that cannot end an object name, or that a rule filters, is left out."""
    assert re.fullmatch(r"submitted/[0-9a-f]{32}", upload(submissions, name=name).version.name)


def test_a_key_names_the_object(submissions: Submissions, settings: Settings, database: Database) -> None:
    """The same upload returns the first object, and later the status of its row; another one is refused."""
    first = upload(submissions, key="one", name="a.png", task=DETECTION)
    assert upload(submissions, key="one", name="b.png", task=DETECTION) == first
    others: list[dict[str, Any]] = [
        {"data": PNG + b"other", "task": DETECTION},
        {"data": PNG[::-1], "task": DETECTION},
        {"task": CAPTION},
        {},
    ]
    for other in others:
        with pytest.raises(KeyReused, match="use a new key"):
            upload(submissions, key="one", **other)
    with pytest.raises(KeyReused, match="another address"):
        submissions.upload_from("https://a.example/a.png", key="one", task=DETECTION, upload_s=1)
    assert blob_of(settings, first.version).download_as_bytes() == PNG
    with database.transaction() as connection:
        record(connection, take(connection, drop(connection, first.version, DETECTION)))
    assert upload(submissions, key="one", task=DETECTION).status is Status.CAPTIONED
    assert upload(submissions, key="two").version.name != first.version.name


def test_an_upload_whose_answer_was_lost_is_one_object(settings: Settings, gcs_server: GcsServer) -> None:
    """The repetition finds the object of the first request; no second object, no second generation."""
    with serve(gcs_server.url) as proxy:
        behind = settings.model_copy(update={"storage_emulator_host": proxy.url})
        with open_submissions(behind, ignore, uploads_only=True) as submissions:
            proxy.lose_response("POST")
            found = upload(submissions, name="a.png", task=DETECTION)
        assert sum(seen.method == "POST" for seen in proxy.requests) == 2
    assert found.task == DETECTION
    assert blob_of(settings, found.version).download_as_bytes() == PNG
    assert len(list(Storage.connect(settings)._client.list_blobs(settings.bucket))) == 1


def test_an_upload_of_several_parts_is_created_once(settings: Settings) -> None:
    """A large file is sent in parts (a resumable upload), and the precondition holds there too."""
    large = settings.model_copy(update={"events": settings.events.model_copy(update={"max_size_bytes": 10**8})})
    with open_submissions(large, ignore) as submissions:
        first = upload(submissions, PNG + bytes(9_000_000), key="large")
        with pytest.raises(KeyReused):
            upload(submissions, PNG, key="large")
    assert blob_of(settings, first.version).size == len(PNG) + 9_000_000


@pytest.mark.parametrize(("data", "code"), [(b"", "empty_object"), (b"x" * 101, "object_too_large")])
def test_an_upload_beyond_measure_is_refused_before_it_is_sent(
    submissions: Submissions, settings: Settings, data: bytes, code: str
) -> None:
    """The bucket stays empty."""
    with pytest.raises(ImageRefused) as refused:
        upload(submissions, data)
    assert refused.value.code == code
    assert not list(Storage.connect(settings)._client.list_blobs(settings.bucket))


def test_an_upload_below_a_filtered_prefix_is_refused(settings: Settings) -> None:
    """The rule is named; nothing is sent."""
    submit = settings.submit.model_copy(update={"prefix": "private/"})
    hidden = settings.model_copy(update={"submit": submit})
    with open_submissions(hidden, ignore) as submissions, pytest.raises(ObjectFiltered, match="EVENTS__EXCLUDE"):
        upload(submissions)


def test_an_object_is_captioned_where_it_is(
    submissions: Submissions, settings: Settings, connection: Connection, redis_url: str
) -> None:
    """Without a task: the object's own task, in a row that is written back; the message names the row."""
    uri = put(settings, task="od")
    found = submissions.request(uri)
    assert (found.version.uri.partition("#")[0], found.task, found.status) == (uri, DETECTION, Status.QUEUED)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        (row_id,) = enqueued(client)
    row = row_of(connection, row_id)
    assert (row["task"], row["status"], row["write_back"]) == ("<OD>", "queued", True)
    assert (row["generation"], row["content_type"], row["size_bytes"]) == (
        found.version.generation,
        "image/png",
        8,
    )
    assert row["md5_hash"]
    assert row["crc32c"]
    # The event of the object arrives, and arrives again.
    assert [drop(connection, found.version, DETECTION) for _ in range(2)] == [row_id, row_id]


@pytest.mark.parametrize("event_first", [True, False])
def test_a_further_task_is_answered_in_postgres_alone(
    submissions: Submissions, settings: Settings, connection: Connection, event_first: bool
) -> None:
    """The row of the further task is not written back, whether or not the event of the object has arrived."""
    uri = put(settings)
    version = Storage.connect(settings).describe(settings.bucket, "a.png").version
    if event_first:
        drop(connection, version)
    further = submissions.request(f"{uri}#{version.generation}", DETECTION)
    assert (further.version, further.task) == (version, DETECTION)
    own = drop(connection, version)
    found = connection.execute(text("SELECT task, write_back FROM captions ORDER BY write_back")).all()
    assert [tuple(row) for row in found] == [("<OD>", False), ("<CAPTION>", True)]
    assert row_of(connection, own)["write_back"] is True


def test_an_object_with_a_row_keeps_its_task(
    submissions: Submissions, settings: Settings, connection: Connection
) -> None:
    """The function may have other rules than this machine: the row that is written back decides."""
    uri = put(settings)
    version = Storage.connect(settings).describe(settings.bucket, "a.png").version
    drop(connection, version, DETECTION)
    assert submissions.request(uri).task == DETECTION
    assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == 1


def test_a_request_that_has_ended_sends_no_message(
    settings: Settings, database: Database, connection: Connection
) -> None:
    """A captioned or failed row is returned as it is; an unfinished one gets its message again, then the pool."""
    uri, acts = put(settings), []
    rows = Rows(database, lambda row_id: acts.append(f"enqueue {row_id}"), lambda: acts.append("wake"))
    submissions = Submissions(Storage.connect(settings), settings, rows)
    version = submissions.request(uri).version
    row_id = drop(connection, version)
    assert submissions.request(uri).status is Status.QUEUED
    assert acts == [f"enqueue {row_id}", "wake"] * 2
    record(connection, take(connection, row_id), write_back=True)
    assert submissions.request(uri) == Submitted(version, CAPTION, Status.CAPTIONED)
    finish_write_back(connection, row_id, written=True)
    assert submissions.request(uri, CAPTION).status is Status.CAPTIONED
    assert len(acts) == 4


def test_without_redis_the_row_is_there_and_a_repetition_sends_the_message(
    settings: Settings, submissions: Submissions, connection: Connection, redis_url: str
) -> None:
    """Row first: a recovery, or the same request again, enqueues the row."""
    uri = put(settings)
    away = settings.model_copy(
        update={"broker": BrokerSettings(url=SecretStr(f"redis://127.0.0.1:{free_ports(1)[0]}/0"))}
    )
    with open_submissions(away, ignore) as others, pytest.raises(BrokerUnavailable):
        others.request(uri, DETECTION)
    assert connection.execute(text("SELECT status FROM captions")).scalar() == "queued"
    submissions.request(uri, DETECTION)
    with redis.Redis.from_url(redis_url, protocol=2) as client:
        assert len(enqueued(client)) == 1


def test_an_invalid_task_of_the_metadata(
    submissions: Submissions, settings: Settings, connection: Connection
) -> None:
    """Without a task the request is refused; a task of the person's is answered, the usual one included."""
    uri = put(settings, task="poem")
    with pytest.raises(InvalidTask, match="'poem', which is no task"):
        submissions.request(uri)
    assert submissions.request(uri, DETECTION).status is Status.QUEUED
    version = Storage.connect(settings).describe(settings.bucket, "a.png").version
    failed = object_rows.register_failed(connection, version, ObjectFacts(), str(CAPTION), "invalid_task", "poem")
    assert submissions.request(uri).status is Status.FAILED
    assert submissions.request(uri, CAPTION).status is Status.QUEUED
    row = row_of(connection, failed.row_id)
    assert (row["status"], row["error"], row["write_back"]) == ("queued", None, False)


@pytest.mark.parametrize(
    ("uri", "kind"),
    [
        ("gs://{bucket}/no.png", ObjectMissing),
        ("gs://{bucket}/a.png#1", ObjectMissing),
        ("gs://another-bucket/a.png", ForeignBucket),
        ("gs://{bucket}/private/a.png", ObjectFiltered),
        ("gs://{bucket}/large.png", ImageRefused),
        ("gs://{bucket}", ClientError),
    ],
)
def test_a_request_that_cannot_be_served(
    submissions: Submissions, settings: Settings, connection: Connection, uri: str, kind: type[Exception]
) -> None:
    """Each reason has an error of its own, and no row is made."""
    for name in ("a.png", "private/a.png", "large.png"):
        put(settings, name, data=PNG * 20 if name.startswith("large") else PNG)
    with pytest.raises(kind):
        submissions.request(uri.format(bucket=settings.bucket), DETECTION)
    assert connection.execute(text("SELECT count(*) FROM captions")).scalar() == 0


def test_the_role_of_the_gallery_may_submit_and_redrive(
    settings: Settings, database: Database, postgres_server: PostgresServer
) -> None:
    """The statements of requests and redrives need no other right than the role's."""
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute("ALTER ROLE dropline_gallery LOGIN PASSWORD 'test'")
    name = settings.database.url.get_secret_value().rpartition("/")[2]
    url = SecretStr(postgres_server.url_for(name, "dropline_gallery", "test"))
    as_gallery = settings.model_copy(update={"database": DatabaseSettings(url=url)})
    uri = put(settings)
    with open_submissions(as_gallery, ignore) as submissions:
        found = submissions.request(uri)
        submissions.request(uri, DETECTION)
    fail_object(database, replace(found.version, name="failed.png"), "worker_lost", "x")
    leave_unwritten(database, replace(found.version, name="unwritten.png"), "access_denied", "x")
    for kind in (FAILED, UNWRITTEN):
        with open_redriver(as_gallery, kind, ignore, ignore) as redriver:
            redriver.redrive(RowFilter(), None)
            assert redriver.redriven.total() == 1
