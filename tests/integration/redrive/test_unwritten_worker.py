"""Failed write-backs, redriven by the command in a process, with a real worker."""

from collections.abc import Iterator
from typing import Any

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Client

from cli.exit_codes import ExitCode
from db.redrivable import UNWRITTEN_ROWS
from dropline.contract import ObjectVersion
from tests.support.failpoints import inferences
from tests.support.gcs_proxy import GcsProxy, serve
from tests.support.redrives import ALL, Redrive, StartRedrive, ended
from tests.support.storage_rig import set_metadata
from tests.support.worker_rig import Rig, png


@pytest.fixture
def gcs_proxy(rig: Rig) -> Iterator[GcsProxy]:
    """A proxy between worker and Cloud Storage, with rules and faults."""
    with serve(rig.gcs_url) as proxy:
        rig.gcs.close()
        rig.gcs_url = proxy.url
        rig.gcs = Client(
            project="test", credentials=AnonymousCredentials(), client_options={"api_endpoint": proxy.url}
        )
        yield proxy


def settled(rig: Rig, *versions: ObjectVersion) -> list[dict[str, Any]]:
    """Drop objects and wait for the worker; returns the rows."""
    ids = [rig.register(version) for version in versions]
    for row_id in ids:
        rig.enqueue(row_id)
    return rig.wait_settled(ids)


def outcome(row: dict[str, Any]) -> tuple[str, str | None, bool, int]:
    return (row["status"], row["error_code"], row["metadata_written_at"] is not None, row["attempts"])


def test_a_copy_that_was_refused_is_made_once_the_cause_is_gone(
    rig: Rig, gcs_proxy: GcsProxy, start_redrive: StartRedrive, redrive: Redrive
) -> None:
    """Two redrives at once and a third later: one PATCH writes the caption, and the model does not run again."""
    version = rig.upload("a.png", png((1, 2, 3)), owner="me")
    gcs_proxy.fail("PATCH", 423)
    rig.worker()
    (row,) = settled(rig, version)
    assert outcome(row) == ("captioned", "storage_refused", False, 1)
    assert rig.metadata(version) == {"owner": "me"}
    patches = gcs_proxy.count("PATCH")
    arguments = ("--metadata", "--error-code", "storage_refused")
    twice = [start_redrive(*arguments) for _ in range(2)]
    assert [ended(process)[0] for process in twice] == [ExitCode.OK, ExitCode.OK]
    (row,) = rig.wait_settled([row["id"]])
    assert (*outcome(row), row["error"]) == ("captioned", None, True, 1, None)
    assert rig.metadata(version) == {
        "caption": "010203",
        "caption-prompt": "<CAPTION>",
        "caption-model": "counting",
        "owner": "me",
    }
    redrive("--metadata", "--all")
    assert rig.row(row["id"]) == row
    assert gcs_proxy.count("PATCH") == patches + 1
    assert inferences(rig.directory) == ["010203"]
    assert rig.queue_length() == 0


def test_a_persons_caption_that_was_removed_makes_room(rig: Rig, gcs_proxy: GcsProxy, redrive: Redrive) -> None:
    """A remaining caption of a person is left alone, and the row has the same error again."""
    removed, kept = (
        rig.upload(f"{name}.png", png((1, 2, colour)), caption="Grandma, 1962")
        for name, colour in (("removed", 3), ("kept", 4))
    )
    rig.worker()
    rows = settled(rig, removed, kept)
    assert [outcome(row) for row in rows] == [("captioned", "metadata_kept", False, 1)] * 2
    set_metadata(rig.gcs.bucket(rig.bucket), removed.name, caption=None)
    redrive("--metadata", "--all")
    rows = rig.wait_settled([row["id"] for row in rows])
    assert [outcome(row) for row in rows] == [
        ("captioned", None, True, 1),
        ("captioned", "metadata_kept", False, 1),
    ]
    assert rig.metadata(removed)["caption"] == "010203"
    assert rig.metadata(kept) == {"caption": "Grandma, 1962"}
    assert sorted(inferences(rig.directory)) == ["010203", "010204"]


def test_a_redrive_killed_outright_leaves_its_rows_to_a_worker(rig: Rig, gcs_proxy: GcsProxy) -> None:
    """After a kill between commit and message, the recovery of the next worker finds the row."""
    version = rig.upload("a.png", png((1, 2, 3)))
    gcs_proxy.fail("PATCH", 423)
    first = rig.worker(name="first")
    (row,) = settled(rig, version)
    first.stop()
    rig.celery.control.purge()  # acknowledged after the row is settled, so perhaps requeued
    with rig.database.transaction() as killed:
        assert UNWRITTEN_ROWS.redrive(killed, ALL, 0, 1)
    assert rig.queue_length() == 0
    rig.worker()
    (row,) = rig.wait_settled([row["id"]])
    assert outcome(row) == ("captioned", None, True, 1)
    assert rig.metadata(version)["caption"] == "010203"
    assert inferences(rig.directory) == ["010203"]
