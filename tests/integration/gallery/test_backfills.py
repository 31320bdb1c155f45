"""Backfills by the API: short steps, their state, the client."""

from typing import Any

import httpx2
import pytest

from db import backfills
from dropline import Client
from local_emulators.gcs import GcsServer
from tests.support.bulk import BulkRig
from tests.support.gallery_rig import GalleryRig


@pytest.fixture
def bulk(gallery: GalleryRig, gcs_server: GcsServer) -> BulkRig:
    """The bucket of the gallery."""
    from dropline.storage.client import make_client

    bucket = make_client("test", gcs_server.url).bucket(gallery.settings.bucket)
    return BulkRig(gallery.settings, bucket, gallery.database)


def test_a_client_carries_out_a_backfill_step_by_step(
    gallery: GalleryRig, bulk: BulkRig, client: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step has a time, and the next one continues: here each has one batch. The role is the gallery's."""
    monkeypatch.setattr("gallery.backfills.STEP_S", 0.0)
    monkeypatch.setattr("operations.backfill.BATCH", 10)
    names = [f"{folder}/{number}.jpg" for folder in "abc" for number in range(15)]
    bulk.put_all([*names, "notes/x.gsutil/tmp"])
    with Client(gallery.url) as api:
        states = list(api.backfill(f"gs://{bulk.bucket.name}"))
    assert len(states) > 5
    assert [state.is_finished for state in states] == [False] * (len(states) - 1) + [True]
    assert (states[-1].queued, states[-1].listed) == (46, 46)
    assert {row["priority"] for row in bulk.rows()} == {2}
    assert set(names) < set(bulk.names())
    state = client.get(f"/api/backfills/{states[-1].id}").json()
    assert (state["queued"], state["source"]) == (46, f"gs://{bulk.bucket.name}/")
    assert state["finished_at"] is not None


def test_wrong_requests_are_problems(client: httpx2.Client, bulk: BulkRig) -> None:
    """An unknown id, a foreign bucket, another form, and a backfill that another process continues."""
    assert client.get("/api/backfills/99").status_code == 404
    refused = client.post("/api/backfills", json={"source": "gs://foreign-bucket"})
    assert (refused.status_code, refused.json()["code"]) == (422, "foreign_bucket")
    assert client.post("/api/backfills", json={"source": "photos"}).status_code == 422
    assert client.post("/api/backfills", json={"source": "gs://x", "rate": 3}).status_code == 422
    bulk.put_all(["a.jpg", "b.jpg"])
    advance = backfills.advance

    def taken_over(*arguments: Any, **named: Any) -> object:
        with bulk.database.transaction() as connection:
            uri = f"gs://{bulk.bucket.name}/"
            options = {"task": None, "archived": False, "since": None, "list": None}
            backfills.start(connection, uri, options, None, "another")
        return advance(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("db.backfills.advance", taken_over)
        conflict = client.post("/api/backfills", json={"source": f"gs://{bulk.bucket.name}"})
    assert (conflict.status_code, conflict.json()["code"]) == (409, "backfill_taken_over")
