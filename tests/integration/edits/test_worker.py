"""Edits with a real worker: races with its attempts, and the copy in the object's metadata."""

import psycopg
import pytest

from db import edits, object_rows
from db.edits import EditTarget
from dropline.contract import ObjectFacts, TaskRequest
from tests.support.failpoints import Gate, inferences
from tests.support.rows import redo
from tests.support.worker_rig import DEADLINE_S, Rig, png

WORDS = "Grandma, 1962"
PERSONS = {"caption": WORDS, "caption-prompt": "<CAPTION>", "caption-model": "person"}


def edit_by_sql(rig: Rig, name: str, words: str = WORDS) -> None:
    """Edit as a person with an SQL shell: no message is sent."""
    with psycopg.connect(rig.database_url) as connection:
        connection.execute("SELECT edit_caption(%s, %s, %s)", (rig.bucket, name, words))


def revert_by_sql(rig: Rig, name: str) -> None:
    with psycopg.connect(rig.database_url) as connection:
        connection.execute("SELECT revert_caption(%s, %s)", (rig.bucket, name))


def test_an_idle_worker_writes_edits_by_sql_to_the_metadata_and_runs_no_model(rig: Rig) -> None:
    """Without a message; also the second edit, a revert, and a caption too long for the metadata."""
    version = rig.upload("a.png", png((1, 2, 3)), owner="me")
    rig.worker()
    row_id = rig.register(version)
    rig.enqueue(row_id)
    rig.wait_settled([row_id])
    edit_by_sql(rig, "a.png")
    (row,) = rig.wait_settled([row_id])
    assert (row["caption"], row["error_code"], row["metadata_written_at"] is not None) == (WORDS, None, True)
    assert rig.metadata(version) == PERSONS | {"owner": "me"}
    edit_by_sql(rig, "a.png", "ä" * 4000)
    (row,) = rig.wait_settled([row_id])
    assert (len(row["caption"]), row["error_code"]) == (4000, "metadata_shortened")
    assert rig.metadata(version)["caption"].endswith("ä…")
    revert_by_sql(rig, "a.png")
    (row,) = rig.wait_settled([row_id])
    assert (row["caption"], row["model"], row["error_code"]) == ("010203", "counting", None)
    assert rig.metadata(version)["caption-model"] == "counting"
    assert rig.metadata(version)["caption"] == "010203"
    assert inferences(rig.directory) == ["010203"]


@pytest.mark.parametrize("is_redo", [False, True], ids=["running", "a redo"])
def test_an_edit_while_the_model_runs_wins(rig: Rig, *, is_redo: bool) -> None:
    """The result of the model is refused, and the metadata have the person's caption."""
    version = rig.upload("a.png", png((1, 2, 3)))
    worker = rig.worker()
    row_id = rig.register(version)
    if is_redo:
        rig.enqueue(row_id)
        rig.wait_settled([row_id])
        with rig.database.transaction() as connection:
            redo(connection, row_id)
    gate = Gate(rig.directory, "inference")
    rig.enqueue(row_id)
    gate.wait(DEADLINE_S)
    edit_by_sql(rig, "a.png")
    gate.open()
    assert worker.wait_for_line("result_refused", DEADLINE_S)
    (row,) = rig.wait_settled([row_id])
    assert (row["status"], row["caption"], row["edited_by"]) == ("captioned", WORDS, "postgres")
    assert rig.metadata(version) == PERSONS


def test_an_object_that_arrives_with_a_caption_keeps_it_without_the_model(rig: Rig) -> None:
    """And a person may edit it, though the metadata have it without `caption-model`; a copy keeps the edit."""
    version = rig.upload("a.png", png(), caption="Grandma")
    rig.worker()
    with rig.database.transaction() as connection:
        facts = ObjectFacts(own_caption="Grandma")
        row_id = object_rows.register_object(connection, version, facts, TaskRequest.parse("<CAPTION>")).row_id
    assert (rig.row(row_id)["status"], rig.row(row_id)["edited_by"]) == ("captioned", "object metadata")
    edit_by_sql(rig, "a.png")
    rig.wait_settled([row_id])
    assert rig.metadata(version) == PERSONS
    copy = rig.upload("copy.png", png(), **PERSONS)
    copied = rig.register(copy)
    rig.enqueue(copied)
    (row,) = rig.wait_settled([copied])
    assert row["error_code"] == "metadata_kept"
    assert rig.metadata(copy) == PERSONS
    assert inferences(rig.directory) == ["010203"]


def test_workers_that_write_no_metadata_write_no_edits(rig: Rig) -> None:
    """The row is settled, as after a caption of the model."""
    version = rig.upload("a.png", png())
    rig.worker(DROPLINE_METADATA__WRITE="false")
    row_id = rig.register(version)
    with rig.database.transaction() as connection:
        edits.edit(connection, EditTarget(rig.bucket, "a.png"), WORDS, "Ana", None)
    (row,) = rig.wait_settled([row_id])
    assert (row["caption"], row["metadata_written_at"], row["error_code"]) == (WORDS, None, None)
    assert rig.metadata(version) == {}


def test_a_worker_that_lost_postgres_hears_of_edits_again(rig: Rig) -> None:
    """Its listening connection is ended from outside."""
    version = rig.upload("a.png", png())
    worker = rig.worker()
    row_id = rig.register(version)
    rig.enqueue(row_id)
    rig.wait_settled([row_id])
    with psycopg.connect(rig.database_url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND "
            "application_name = 'dropline-worker-edits'"
        ).fetchall()
    assert found == [(True,)]
    assert worker.wait_for_line("edits_not_heard", DEADLINE_S)
    edit_by_sql(rig, "a.png")
    rig.wait_settled([row_id])
    assert rig.metadata(version) == PERSONS
