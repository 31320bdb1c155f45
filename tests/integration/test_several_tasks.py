"""Several tasks of one object, by a real worker with real services: one download, one decoding, one look."""

import pytest

from db import object_rows
from dropline.contract import ObjectFacts, ObjectVersion
from dropline.selection import Accept
from dropline.task_list import parse_tasks
from tests.support.failpoints import arm, armed, images, inferences, uses
from tests.support.worker_rig import Rig, png

TASKS = "<CAPTION>, <OPEN_VOCABULARY_DETECTION>a car, a cat, <OCR>"
LABEL = "010203"


def register(rig: Rig, version: ObjectVersion, tasks: str = TASKS) -> list[int]:
    """Insert the rows, as the function does: their ids."""
    with rig.database.transaction() as connection:
        accepted = Accept(parse_tasks(tasks))
        rows = object_rows.register_tasks(connection, version, ObjectFacts(), accepted)
    return [row.row_id for row in rows]


def test_three_tasks_take_one_download_one_decoding_and_one_look_at_the_image(rig: Rig) -> None:
    """One message; each row has its caption, and the metadata have that of the first task."""
    version = rig.upload("a.png", png())
    row_ids = register(rig, version)
    rig.enqueue(row_ids[0])
    rig.worker()
    rows = rig.wait_settled(row_ids)
    assert [(row["status"], row["caption"], row["attempts"]) for row in rows] == [("captioned", LABEL, 1)] * 3
    assert [row["write_back"] for row in rows] == [True, False, False]
    assert rig.metadata(version)["caption-prompt"] == "<CAPTION>"
    assert (uses(rig.directory, "download"), uses(rig.directory, "decode")) == (1, 1)
    assert inferences(rig.directory) == [LABEL] * 3
    assert images(rig.directory) == [LABEL]


@pytest.mark.parametrize("stage", ["claimed", "downloaded", "before-commit", "committed", "patched"])
def test_a_killed_child_loses_no_task(rig: Rig, stage: str) -> None:
    """A task whose attempt was lost runs alone; a recorded one does not run again."""
    arm(rig.directory, stage, "child")
    row_ids = register(rig, rig.upload("a.png", png()))
    rig.enqueue(row_ids[0])
    rig.worker()
    rows = rig.wait_settled(row_ids)
    assert armed(rig.directory) == []
    assert [(row["status"], row["caption"]) for row in rows] == [("captioned", LABEL)] * 3
    assert rows[0]["metadata_written_at"] is not None
    recorded = {"committed": 1, "patched": 3}.get(stage, 0)
    assert sorted(row["lost_attempts"] for row in rows) == [0] * recorded + [1] * (3 - recorded)
    repeated = 3 - recorded if stage in ("before-commit", "committed") else 0
    assert len(inferences(rig.directory)) == 3 + repeated


def test_an_image_that_kills_the_engine_sets_each_of_its_tasks_aside(rig: Rig) -> None:
    """Three attempts at each task, of which the first was common; the neighbour is captioned."""
    row_ids = register(rig, rig.upload("poison.png", png((255, 0, 0))))
    neighbour = rig.register(rig.upload("b.png", png()))
    for row_id in (row_ids[0], neighbour):
        rig.enqueue(row_id)
    rig.worker()
    *failed, captioned = rig.wait_settled([*row_ids, neighbour])
    assert {(row["status"], row["error_code"]) for row in failed} == {("failed", "engine_lost")}
    assert captioned["status"] == "captioned"


def test_a_file_that_is_no_image_fails_for_every_task(rig: Rig) -> None:
    """Each row has the reason; the object is downloaded once."""
    row_ids = register(rig, rig.upload("a.png", b"these are words, not pixels"))
    rig.enqueue(row_ids[0])
    rig.worker()
    rows = rig.wait_settled(row_ids)
    assert {(row["status"], row["error_code"]) for row in rows} == {("failed", "not_an_image")}
    assert uses(rig.directory, "download") == 1
