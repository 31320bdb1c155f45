"""What a gallery needs of Redis, Cloud Tasks and Cloud Run, by what its senders may do."""

import contextlib
from collections.abc import Iterator

import pytest

from dropline.contract import ObjectVersion
from dropline.errors import SettingsError
from dropline.scaling.activation import connect_mark
from dropline.scaling.protocol import AWAKE, ReplaceMark
from dropline.settings import BrokerSettings, PoolSettings, Settings
from gallery.access import Scope, TokenEntry, digest_of
from gallery.rows import open_rows
from gallery.server import open_resources
from local_emulators.gcs import GcsServer
from tests.support import fake_cloud_tasks
from tests.support.fake_cloud_tasks import QUEUE, FakeCloudTasks
from tests.support.gallery_rig import open_gallery, settings_for
from tests.support.rows import caption_object


@pytest.fixture
def tasks() -> Iterator[FakeCloudTasks]:
    with fake_cloud_tasks.serve() as found:
        yield found


@pytest.fixture
def gallery(database_url: str, redis_url: str, gcs_server: GcsServer) -> Settings:
    """Settings with a token that may only read."""
    reader = TokenEntry.named("reader", frozenset({Scope.READ}), digest_of("reading"))
    return settings_for(database_url, redis_url, gcs_server, tokens=(str(reader),))


def test_the_function_is_called_to_wake_the_workers(gallery: Settings, tasks: FakeCloudTasks) -> None:
    """With a queue of Cloud Tasks the gallery calls no worker pool, and makes no task while workers are awake."""
    pool = PoolSettings(wake_queue=QUEUE, wake_url="https://function.example/wake", wake_api=tasks.url)
    settings = gallery.model_copy(update={"pool": pool})
    with open_rows(settings) as rows, contextlib.closing(connect_mark(settings.broker)) as mark:
        mark.replace(ReplaceMark(None, AWAKE, 600))
        rows.wake()
        assert tasks.tasks == []
        mark.replace(ReplaceMark(AWAKE, None))
        rows.wake()
    assert [task["httpRequest"]["url"] for task in tasks.tasks] == ["https://function.example/wake"]


def test_a_gallery_that_only_reads_needs_no_redis(gallery: Settings, database_url: str) -> None:
    """It shows captions and refuses to submit; with a token that may submit it does not start without Redis."""
    settings = gallery.model_copy(update={"broker": BrokerSettings()})
    with open_gallery(settings, database_url) as rig, rig.client("reading") as client:
        caption_object(rig.database, ObjectVersion(settings.bucket, "a.png", 1), "a cat")
        assert [each["caption"] for each in client.get("/api/captions").json()["captions"]] == ["a cat"]
        refused = client.post("/api/captions", json={"uri": f"gs://{settings.bucket}/a.png"})
        assert (refused.status_code, refused.json()["code"]) == (403, "scope_missing")
        with pytest.raises(SettingsError, match="DROPLINE_BROKER__URL"):
            rig.server.resources.rows.wake()
    writer = TokenEntry.named("writer", frozenset({Scope.SUBMIT}), digest_of("writing"))
    writing = settings.gallery.model_copy(update={"tokens": (str(writer),)})
    with (
        pytest.raises(SettingsError, match="DROPLINE_BROKER__URL"),
        open_resources(settings.model_copy(update={"gallery": writing})),
    ):
        pytest.fail("started")
