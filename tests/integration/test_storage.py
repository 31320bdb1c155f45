"""Reads from Cloud Storage with the real client over HTTP, with refusals, lost responses and damaged data."""

import gzip
import zlib

import pytest
from google.cloud.storage import Bucket

from dropline.contract import ObjectVersion, WriteOutcome
from dropline.errors import AccessDenied, ImageRefused, ObjectGone, PermanentError, StorageUnavailable
from dropline.settings import MetadataSettings
from dropline.storage.encodings import Content
from dropline.storage.objects import ObjectStore, make_store
from tests.support.gcs_proxy import GcsProxy
from tests.support.storage_rig import BODY, LIMIT, OURS, metadata_of, settings_for, upload, write

NAMES = (
    "plain.jpg",
    "a/b/c.jpg",
    "/leading slash.jpg",
    "../../etc/passwd",
    "./dot",
    "a//b",
    "trailing/",
    "hash#tag?query=1&x=%2F",
    "percent%2Fencoded%25.jpg",
    "quotes'\"`<>.jpg",
    "emoji 🐈‍⬛ ü 漢字.jpg",
    "e\u0301 combining",
    "plus+and space ~!*().jpg",
    "back\\slash;semi:colon|",
    "\x01control\x7f",
    "n" * 1024,
    "ü" * 512,
)


def test_bytes_come_back(store: ObjectStore, bucket: Bucket) -> None:
    """A download equals the upload byte for byte, including an empty object."""
    assert store.download(upload(bucket), LIMIT).data == BODY
    assert store.download(upload(bucket, "empty", b""), LIMIT).data == b""


@pytest.mark.parametrize("name", NAMES)
def test_names_make_the_round_trip(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy, name: str) -> None:
    """Every object name allowed by Cloud Storage is read and written under exactly the same name."""
    version = upload(bucket, name)
    assert store.download(version, LIMIT).data == BODY
    assert write(store, version) == WriteOutcome(written=True)
    assert metadata_of(bucket, name) == OURS
    assert store.live_generation(version) == version.generation
    assert {seen.object_name for seen in gcs_proxy.requests if seen.object_name is not None} == {name}


def test_an_overwritten_generation_is_gone(store: ObjectStore, bucket: Bucket) -> None:
    """The old generation is gone for every call, and the new generation has none of the old metadata."""
    old, new = upload(bucket), upload(bucket, body=b"new")
    with pytest.raises(ObjectGone, match="overwritten or deleted"):
        store.download(old, LIMIT)
    with pytest.raises(ObjectGone):
        write(store, old)
    assert store.live_generation(old) == new.generation
    assert (store.exists(old, (5, 30)), store.exists(new, (5, 30))) == (False, True)
    assert metadata_of(bucket) == {}
    assert store.download(new, LIMIT).data == b"new"


def test_41_a_missing_bucket_deletes_no_row(store: ObjectStore) -> None:
    """An object and a bucket that are not there have the same answer; the error names the bucket."""
    version = ObjectVersion("no-such-bucket", "a.jpg", 7)
    with pytest.raises(ObjectGone):
        store.download(version, LIMIT)
    for call in (lambda: store.check_gone(version), lambda: write(store, version)):
        with pytest.raises(StorageUnavailable, match="bucket gs://no-such-bucket is not there"):
            call()


def test_a_404_for_the_live_generation_is_transient(
    store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """Cloud Storage still names this generation as the live one: the object is not gone."""
    version = upload(bucket)
    gcs_proxy.fail("GET", 404)
    with pytest.raises(ObjectGone):
        store.download(version, LIMIT)
    with pytest.raises(StorageUnavailable, match="live one"):
        store.check_gone(version)
    gcs_proxy.fail("GET", 404)
    with pytest.raises(StorageUnavailable, match="live one"):
        write(store, version)
    assert write(store, version).written


def test_a_deleted_object_is_gone(store: ObjectStore, bucket: Bucket) -> None:
    """After a deletion every call reports a missing object, and no generation is live."""
    version = upload(bucket)
    bucket.delete_blob(version.name)
    with pytest.raises(ObjectGone):
        store.download(version, LIMIT)
    with pytest.raises(ObjectGone):
        write(store, version)
    assert store.live_generation(version) is None


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_busy_servers_are_transient(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy, status: int) -> None:
    """A busy Cloud Storage gets one request, and the error is transient."""
    version = upload(bucket)
    for method, call in (
        ("GET", lambda: store.download(version, LIMIT)),
        ("GET", lambda: store.live_generation(version)),
        ("GET", lambda: write(store, version)),
        ("PATCH", lambda: write(store, version)),
    ):
        gcs_proxy.fail(method, status)
        before = gcs_proxy.count(method)
        with pytest.raises(StorageUnavailable):
            call()
        assert gcs_proxy.count(method) == before + 1
    assert write(store, version).written


@pytest.mark.parametrize("status", [401, 403])
def test_missing_rights_are_named(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy, status: int) -> None:
    """Without a permission, the error names the missing permission, and the row waits."""
    version = upload(bucket)
    gcs_proxy.fail("GET", status)
    with pytest.raises(AccessDenied, match=r"storage\.objects\.get"):
        store.download(version, LIMIT)
    gcs_proxy.fail("PATCH", status)
    with pytest.raises(AccessDenied, match=r"storage\.objects\.update"):
        write(store, version)


def test_other_refusals_are_permanent(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """An answer that a retry cannot change becomes a permanent error with a code."""
    gcs_proxy.fail("GET", 400)
    with pytest.raises(PermanentError) as caught:
        store.download(upload(bucket), LIMIT)
    assert caught.value.code == "storage_refused"


def test_a_server_that_is_not_there_is_transient() -> None:
    """A refused connection is a transient error."""
    with make_store(settings_for("127.0.0.1:9")) as store, pytest.raises(StorageUnavailable):
        store.download(ObjectVersion("bucket", "name", 1), LIMIT)


def test_a_silent_server_is_transient(bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A server that does not answer in time is a transient error, and the library does not repeat a PATCH."""
    version = upload(bucket)
    with ObjectStore(bucket.client, MetadataSettings(), timeout_s=(5.0, 0.3)) as impatient:
        gcs_proxy.delay("PATCH", 2.0)
        with pytest.raises(StorageUnavailable):
            write(impatient, version)
        assert gcs_proxy.count("PATCH") == 1


def test_damaged_downloads_are_transient(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """Bytes that do not match the checksum are never returned."""
    version = upload(bucket)
    gcs_proxy.damage()
    with pytest.raises(StorageUnavailable, match="damaged"):
        store.download(version, LIMIT)
    assert store.download(version, LIMIT).data == BODY


def test_cut_downloads_are_transient(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A connection that ends in the middle of a download is a transient error."""
    version = upload(bucket)
    gcs_proxy.cut()
    with pytest.raises(StorageUnavailable):
        store.download(version, LIMIT)
    assert store.download(version, LIMIT).data == BODY


def test_idle_connections_that_were_closed_cost_nothing(
    store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """A read on a closed idle connection is repeated at once, without an error."""
    version = upload(bucket)
    gcs_proxy.lose_response("GET")
    assert store.download(version, LIMIT).data == BODY


def test_large_objects_are_refused(store: ObjectStore, bucket: Bucket) -> None:
    """An object at the limit is read; a larger object is refused, for any size in the event."""
    version = upload(bucket)
    assert store.download(version, len(BODY)).data == BODY
    with pytest.raises(ImageRefused, match="DROPLINE_EVENTS__MAX_SIZE_BYTES") as caught:
        store.download(version, len(BODY) - 1)
    assert caught.value.code == "object_too_large"
    assert store.download(version, LIMIT).data == BODY


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("gzip", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:])),
        ("gzip", gzip.compress(BODY) + b"trailing"),
        ("x-gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY))),
        ("deflate", zlib.compress(BODY)),
        ("gzip", BODY),
        ("utf-8", BODY),
    ],
)
def test_packed_objects_are_unpacked(store: ObjectStore, bucket: Bucket, encoding: str, stored: bytes) -> None:
    """A compressed upload is decompressed, with each spelling of its encoding; a wrong encoding is ignored."""
    assert store.download(_packed(bucket, "packed", stored, encoding), LIMIT) == Content(BODY)


def test_encodings_that_are_not_undone_are_named(store: ObjectStore, bucket: Bucket) -> None:
    """The bytes are downloaded as stored, with the name of their encoding."""
    assert store.download(_packed(bucket, "packed", BODY, "br"), LIMIT) == Content(BODY, "br")


def test_decompression_bombs_are_refused(store: ObjectStore, bucket: Bucket) -> None:
    """The limit of bytes holds for decompressed bytes."""
    with pytest.raises(ImageRefused) as caught:
        store.download(_packed(bucket, "bomb", gzip.compress(bytes(50_000_000)), "gzip"), LIMIT)
    assert caught.value.code == "object_too_large"


def test_damaged_compressed_downloads_are_transient(
    store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """The checksum covers the stored bytes, so damage on the way is found before anything is decompressed."""
    version = _packed(bucket, "packed", gzip.compress(BODY), "gzip")
    gcs_proxy.damage()
    with pytest.raises(StorageUnavailable, match="damaged"):
        store.download(version, LIMIT)
    assert store.download(version, LIMIT).data == BODY


def _packed(bucket: Bucket, name: str, body: bytes, encoding: str) -> ObjectVersion:
    blob = bucket.blob(name)
    blob.content_encoding = encoding
    blob.upload_from_string(body, content_type="image/jpeg")
    return ObjectVersion(bucket.name, name, int(blob.generation))


def test_no_credentials_are_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an emulator and without credentials, the error names the settings."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent/key.json")
    with pytest.raises(AccessDenied, match="STORAGE_EMULATOR_HOST"):
        make_store(settings_for(""))
