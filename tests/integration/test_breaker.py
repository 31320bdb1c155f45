"""The circuit breaker of a real worker with real services, and its statements."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from db import attempts, breakers, edits, workers
from db.session import Database
from db.workers import NewWorker
from tests.support.engines import wait_until
from tests.support.failpoint_engine import POISON
from tests.support.failpoints import arm, armed, inferences
from tests.support.rows import G1, TASK, drop, end_waits, fail_object, record, redo, row_of, take
from tests.support.shell import run
from tests.support.worker_rig import DEADLINE_S, Rig, png

#: More deaths than a test takes part in.
_ALWAYS = 1000


def heal(directory: Path) -> None:
    """The engine no longer dies."""
    for token in armed(directory):
        (directory / token).unlink(missing_ok=True)


def test_fault_44_an_engine_that_dies_on_every_image_sets_none_aside(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows wait, `status` says so, and one probe of the well engine closes the breaker."""
    arm(rig.directory, "inference", "engine", times=_ALWAYS)
    ids = [rig.drop(f"{n}.png", png((n, 0, 44))) for n in range(4)]
    worker = rig.worker(DROPLINE_WORKER__RETRY_CAP_S="0.5")
    assert worker.wait_for_line("breaker_opened", DEADLINE_S)
    # More deaths than the images have attempts.
    assert worker.wait_for_line('"probe": 12,', DEADLINE_S)
    assert {rig.row(row_id)["status"] for row_id in ids} <= {"queued", "running"}
    for name, value in {"DATABASE__URL": rig.database_url, "BROKER__URL": rig.redis_url}.items():
        monkeypatch.setenv(f"DROPLINE_{name}", value)
    (found,) = json.loads(run("status", "--json").stdout)["workers"]["open_breakers"]
    assert "the engine died on 3 different images in a row" in found["reason"]
    assert f"is open since {found['open_since'][:10]}" in run("status").stdout
    heal(rig.directory)
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["error_code"]) for row in rows} == {("captioned", None)}
    assert worker.wait_for_line("breaker_closed", DEADLINE_S)
    wait_until(lambda: _found_open(rig) == [])


def test_images_that_kill_engines_are_set_aside_though_no_other_is_due(rig: Rig) -> None:
    """An image that was captioned before clears the engine: each of the others costs a few engines, not twenty."""
    worker = rig.worker(DROPLINE_WORKER__RETRY_CAP_S="0.5", DROPLINE_WORKER__COPY_IDENTICAL="false")
    (good,) = rig.wait_settled([rig.drop("good.png", png((0, 1, 44)))])
    ids = [rig.drop(f"{n}.png", png((255, 0, 0))) for n in range(5)]
    assert worker.wait_for_line("breaker_opened", DEADLINE_S)
    rows = rig.wait_settled(ids)
    assert {row["status"] for row in rows} == {"failed"}
    assert {row["error_code"] for row in rows} <= {"engine_lost", "worker_lost"}
    assert worker.wait_for_line("breaker_closed", DEADLINE_S)
    # Three attempts count, and a few are given back.
    assert inferences(rig.directory).count(POISON) <= 8 * len(ids)
    assert rig.row(good["id"]) == good


def _found_open(rig: Rig) -> list[breakers.OpenBreaker]:
    with rig.database.transaction() as connection:
        return breakers.find_open(connection)


def lose(connection: Connection, row_id: int, times: int) -> None:
    """End attempts of the row with the death of the engine; the third sets the row aside."""
    for number in range(1, times + 1):
        end_waits(connection)
        taken = take(connection, row_id)
        if number < 3:
            attempts.requeue(connection, taken, "engine_lost", "died", lost=True, delay_s=9)
        else:
            attempts.fail(connection, taken, "engine_lost", "died")


def state(connection: Connection, row_id: int) -> tuple[str, int, bool]:
    """Status, lost attempts and whether the row is to be redone."""
    row = row_of(connection, row_id)
    return row["status"], row["lost_attempts"], row["redo"]


def test_lost_attempts_are_given_back(connection: Connection) -> None:
    """As many as the breaker names, never below none; a row that was set aside is queued again."""
    row_id = drop(connection, G1)
    breakers.give_back(connection, {})
    lose(connection, row_id, 2)
    breakers.give_back(connection, {row_id: 1, row_id + 1: 1})
    assert state(connection, row_id) == ("queued", 1, False)
    breakers.give_back(connection, {row_id: 2})
    assert state(connection, row_id) == ("queued", 0, False)
    lose(connection, row_id, 3)
    assert state(connection, row_id) == ("failed", 2, False)
    breakers.give_back(connection, {row_id: 3})
    assert state(connection, row_id) == ("queued", 0, False)
    assert take(connection, row_id).lost_attempts == 0


def test_a_row_that_keeps_its_caption_is_redone(connection: Connection) -> None:
    """The last attempt of a row that was to be redone is given back, and the row is to be redone again."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id))
    redo(connection, row_id)
    lose(connection, row_id, 2)
    breakers.give_back(connection, {row_id: 1})
    assert state(connection, row_id) == ("captioned", 1, True)
    lose(connection, row_id, 3)
    assert state(connection, row_id) == ("captioned", 3, False)
    breakers.give_back(connection, {row_id: 3})
    assert state(connection, row_id) == ("captioned", 0, True)
    assert take(connection, row_id).lost_attempts == 0


def test_a_redo_given_back_has_no_lease(database: Database, connection: Connection) -> None:
    """After a revert, the row was due for the write-back of the person's caption. No attempt was lost."""
    row_id = fail_object(database, G1, "not_an_image", "words")
    with database.transaction() as of_ana:
        target = edits.EditTarget(G1.bucket, G1.name)
        edits.edit(of_ana, target, "Grandma", "Ana", None)
        edits.revert(of_ana, target, "Ana", None)
    attempts.fail(connection, take(connection, row_id), "engine_lost", "died")
    breakers.give_back(connection, {row_id: 1})
    assert state(connection, row_id) == ("captioned", 0, True)
    assert take(connection, row_id).lost_attempts == 0


@pytest.mark.parametrize("code", ["not_an_image", "worker_lost"])
def test_another_failure_stays(connection: Connection, code: str) -> None:
    """Only a row that the death of an engine set aside is queued again."""
    row_id = drop(connection, G1)
    attempts.fail(connection, take(connection, row_id), code, "words")
    breakers.give_back(connection, {row_id: 1})
    assert state(connection, row_id) == ("failed", 0, False)


def test_a_captioned_row_stays(connection: Connection) -> None:
    """Another worker has captioned the image meanwhile."""
    row_id = drop(connection, G1)
    lose(connection, row_id, 1)
    end_waits(connection)
    record(connection, take(connection, row_id))
    breakers.give_back(connection, {row_id: 1})
    assert state(connection, row_id) == ("captioned", 1, False)


def test_the_breaker_stands_in_the_row_of_its_worker(connection: Connection) -> None:
    """The time is that of the opening; a worker that has stopped has no open breaker."""
    connection.exec_driver_sql("SET ROLE dropline_worker")
    for name in ("a", "b"):
        workers.insert(connection, NewWorker(name, f"host-{name}", "demo", "sha256-1", "cpu", 32), 0.0)
    breakers.record(connection, "a", "first")
    (first,) = breakers.find_open(connection)
    assert (first.name, first.host, first.reason) == ("a", "host-a", "first")
    breakers.record(connection, "a", "second")
    (second,) = breakers.find_open(connection)
    assert (second.open_since, second.reason) == (first.open_since, "second")
    breakers.record(connection, "a", None)
    assert breakers.find_open(connection) == []
    breakers.record(connection, "a", "third")
    workers.set_stopped(connection, "a")
    assert breakers.find_open(connection) == []


def test_the_reference_image_is_the_newest_caption_of_the_model(connection: Connection) -> None:
    """Not one of another model, a copy, a row that failed later, or one to be redone; as the worker's login."""
    rows = []
    for number in range(6):
        rows.append(drop(connection, replace(G1, name=f"{number}.png")))
        record(connection, take(connection, rows[-1]))
        age = f"{number + 1} minutes"
        connection.execute(
            text("UPDATE captions SET captioned_at = now() - CAST(:age AS interval) WHERE id = :id"),
            {"age": age, "id": rows[-1]},
        )
    model, revision = (row_of(connection, rows[0])[name] for name in ("model", "model_revision"))
    changes = ("model = 'another'", "model_revision = 'another'", f"copied_from = {rows[5]}", "error_code = 'x'")
    for row_id, change in zip(rows, changes, strict=False):
        connection.execute(text(f"UPDATE captions SET {change} WHERE id = {row_id}"))
    redo(connection, rows[4])
    connection.exec_driver_sql("SET ROLE dropline_worker")
    found = breakers.find_reference(connection, model, revision)
    assert found == breakers.Reference(rows[5], replace(G1, name="5.png"), TASK)
    assert breakers.find_reference(connection, "none", revision) is None
