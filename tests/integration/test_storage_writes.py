"""Writing captions back to Cloud Storage, with concurrent writers and lost responses."""

import json

import pytest
from google.api_core.exceptions import BadRequest, PreconditionFailed
from google.cloud.storage import Bucket

from dropline.contract import SeenMetadata, WriteOutcome
from dropline.errors import ObjectGone, PreconditionLost, StorageUnavailable
from dropline.storage.objects import ObjectStore
from tests.support.gcs_proxy import GcsProxy
from tests.support.storage_rig import LIMIT, OURS, metadata_of, set_metadata, upload, write


def test_each_step_is_one_request(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """Downloading and writing back costs one download, one read and one PATCH, without background requests."""
    version = upload(bucket)
    before = len(gcs_proxy.requests)
    store.download(version, LIMIT)
    write(store, version)
    assert [(seen.method, seen.is_download) for seen in gcs_proxy.requests[before:]] == [
        ("GET", True),
        ("GET", False),
        ("PATCH", False),
    ]


def test_with_the_metadata_of_the_event_the_patch_is_the_only_request(
    store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """Other keys stay; the precondition is the metageneration of the event."""
    version = upload(bucket, metadata={"album": "a"})
    before = len(gcs_proxy.requests)
    assert write(store, version, seen=SeenMetadata(1, 6)) == WriteOutcome(written=True)
    (patch,) = gcs_proxy.requests[before:]
    assert (patch.method, patch.query["ifMetagenerationMatch"]) == ("PATCH", "1")
    assert metadata_of(bucket) == {"album": "a"} | OURS


def test_metadata_changed_since_the_event_are_read(
    store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """The refused PATCH has no effect; the second one fits beside the keys of now."""
    version = upload(bucket)
    set_metadata(bucket, k1="v" * 4000, k2="v" * 3900)
    outcome = write(store, version, "a cat " * 100, seen=SeenMetadata(1, 0))
    assert (outcome.written, outcome.code) == (True, "metadata_shortened")
    # The user's, the refused one, and that after the read.
    assert gcs_proxy.count("PATCH") == 3
    assert metadata_of(bucket)["k1"] == "v" * 4000


@pytest.mark.parametrize("change", ["overwrite", "delete"])
def test_an_object_gone_since_its_event_gets_no_caption(store: ObjectStore, bucket: Bucket, change: str) -> None:
    """The PATCH names the generation."""
    version = upload(bucket)
    if change == "overwrite":
        upload(bucket, body=b"new")
    else:
        bucket.delete_blob(version.name)
    with pytest.raises(ObjectGone):
        write(store, version, seen=SeenMetadata(1, 0))
    assert change == "delete" or metadata_of(bucket) == {}


def test_a_lost_response_of_the_only_request_is_one_effect(
    store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy
) -> None:
    """The next try finds the values, whether it has the metadata of the event or not."""
    version = upload(bucket)
    gcs_proxy.lose_response("PATCH")
    with pytest.raises(StorageUnavailable):
        write(store, version, seen=SeenMetadata(1, 0))
    for seen in (None, SeenMetadata(1, 0)):
        assert write(store, version, seen=seen) == WriteOutcome(written=True)
    assert bucket.get_blob(version.name).metageneration == 2


def test_an_overwrite_between_read_and_write(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """An overwrite before the PATCH is detected, and the new object does not get the old caption."""
    version = upload(bucket)
    gcs_proxy.before("PATCH", lambda: upload(bucket, body=b"new"))
    with pytest.raises(ObjectGone):
        write(store, version)
    assert metadata_of(bucket) == {}


def test_a_deletion_between_read_and_write(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A deletion before the PATCH is detected."""
    version = upload(bucket)
    gcs_proxy.before("PATCH", lambda: bucket.delete_blob(version.name))
    with pytest.raises(ObjectGone):
        write(store, version)


def test_a_strangers_keys_survive_a_race(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """Keys edited between read and PATCH stay, and the next try adds the keys of Dropline."""
    version = upload(bucket, metadata={"album": "old"})
    gcs_proxy.before("PATCH", lambda: set_metadata(bucket, album="new", rating="5"))
    with pytest.raises(PreconditionLost):
        write(store, version)
    assert metadata_of(bucket) == {"album": "new", "rating": "5"}
    assert write(store, version).written
    assert metadata_of(bucket) == {"album": "new", "rating": "5"} | OURS


def test_a_strangers_deleted_key_stays_deleted(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A key removed between read and PATCH is not written back."""
    version = upload(bucket, metadata={"private": "yes", "album": "a"})
    gcs_proxy.before("PATCH", lambda: set_metadata(bucket, private=None))
    with pytest.raises(PreconditionLost):
        write(store, version)
    write(store, version)
    assert metadata_of(bucket) == {"album": "a"} | OURS


def test_the_patch_names_our_keys_alone(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """The PATCH has only Dropline's three keys and both preconditions, for any existing metadata."""
    version = upload(bucket, metadata={"album": "a"})
    write(store, version)
    patch = next(seen for seen in gcs_proxy.requests if seen.method == "PATCH")
    assert json.loads(patch.body) == {"metadata": OURS}
    assert patch.query["ifGenerationMatch"] == patch.query["generation"] == str(version.generation)
    assert patch.query["ifMetagenerationMatch"] == "1"


def test_a_lost_response_is_one_effect(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A PATCH with a lost response is recognised at the next try, and not sent again."""
    version = upload(bucket)
    gcs_proxy.lose_response("PATCH")
    with pytest.raises(StorageUnavailable):
        write(store, version)
    assert metadata_of(bucket) == OURS
    assert write(store, version) == WriteOutcome(written=True)
    assert gcs_proxy.count("PATCH") == 1
    assert bucket.get_blob(version.name).metageneration == 2


def test_our_own_write_behind_a_412_is_success(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A 412 caused by the worker's earlier PATCH is a success."""
    version = upload(bucket)
    gcs_proxy.before("PATCH", lambda: set_metadata(bucket, **OURS))
    assert write(store, version) == WriteOutcome(written=True)
    assert metadata_of(bucket) == OURS


def test_writing_again_sends_nothing(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """The same caption twice is one PATCH; another caption is a second PATCH."""
    version = upload(bucket)
    write(store, version)
    write(store, version)
    assert gcs_proxy.count("PATCH") == 1
    write(store, version, "another")
    assert metadata_of(bucket)["caption"] == "another"


def test_odd_captions(store: ObjectStore, bucket: Bucket) -> None:
    """NUL, line ends, emoji and ten kilobytes reach the metadata as far as a header allows."""
    version = upload(bucket)
    assert write(store, version, "a\x00cat\r\n🐈‍⬛").code is None
    assert metadata_of(bucket)["caption"] == "a cat  🐈‍⬛"
    outcome = write(store, version, "🐈‍⬛ " * 1000)
    assert (outcome.written, outcome.code) == (True, "metadata_shortened")
    assert len(metadata_of(bucket)["caption"].encode()) <= 4096


def test_full_metadata_stays_as_it_is(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """With 8 KB of other metadata no caption is written, and the outcome has the code `metadata_left_out`."""
    theirs = {"k1": "v" * 4000, "k2": "v" * 4000, "k3": "v" * 180}
    outcome = write(store, upload(bucket, metadata=theirs))
    assert (outcome.written, outcome.code) == (False, "metadata_left_out")
    assert metadata_of(bucket) == theirs
    assert gcs_proxy.count("PATCH") == 0


def test_refused_metadata_is_reported(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """Metadata refused by Cloud Storage is left out, and the row gets the message of Cloud Storage."""
    version = upload(bucket)
    gcs_proxy.fail("PATCH", 400)
    outcome = write(store, version)
    assert (outcome.written, outcome.code) == (False, "metadata_left_out")
    assert "told to answer 400" in str(outcome.note)


def test_a_persons_caption_stays(store: ObjectStore, bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """A person's caption is not replaced, not even by a second write-back."""
    version = upload(bucket, metadata={"caption": "Grandma, 1962", "caption-task": "od"})
    for _ in range(2):
        assert write(store, version).code == "metadata_kept"
    assert metadata_of(bucket) == {"caption": "Grandma, 1962", "caption-task": "od"}
    assert gcs_proxy.count("PATCH") == 0


def test_the_proxy_keeps_the_rules(bucket: Bucket, gcs_proxy: GcsProxy) -> None:
    """Control: the proxy enforces metageneration, deletion by null, and the limit of 8 KiB."""
    upload(bucket, metadata={"a": "1"})
    set_metadata(bucket, a=None, b="2")
    assert metadata_of(bucket) == {"b": "2"}
    assert bucket.get_blob("cat.jpg").metageneration == 2
    with pytest.raises(BadRequest, match="too large"):
        set_metadata(bucket, c="v" * 8192)
    blob = bucket.get_blob("cat.jpg")
    set_metadata(bucket, d="4")
    blob.metadata = {"e": "5"}
    with pytest.raises(PreconditionFailed):
        blob.patch(if_metageneration_match=2, retry=None)
    assert upload(bucket).generation != blob.generation
    assert bucket.get_blob("cat.jpg").metageneration == 1
