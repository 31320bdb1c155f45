"""Write-backs whose caption a person has replaced meanwhile: the metadata end with the caption of the row."""

from collections.abc import Callable

import pytest
from sqlalchemy import Connection

from db import attempts, claims, edits
from db.attempts import Ended
from db.edits import EditTarget
from db.session import Database
from dropline.contract import WriteBack, WriteOutcome
from tests.support.rows import G1, LEASE_S, caption_object, end_waits, fail_object, row_of, take

TARGET = EditTarget(G1.bucket, G1.name)
SLOW, OTHER, THIRD = "slow/1", "other/1", "third/1"


def edit(database: Database, words: str) -> None:
    with database.transaction() as connection:
        edits.edit(connection, TARGET, words, "Ana", None)


def claim(connection: Connection, child: str) -> WriteBack:
    work = claims.claim(connection, 0, LEASE_S, child).work
    assert isinstance(work, WriteBack)
    return work


def finish(connection: Connection, write_back: WriteBack) -> Ended:
    return attempts.finish_write_back(connection, write_back, WriteOutcome(written=True))


def postpone(connection: Connection, write_back: WriteBack) -> Ended:
    return attempts.postpone_write_back(connection, write_back, 600)


@pytest.mark.parametrize("end", [finish, postpone])
@pytest.mark.parametrize("is_finished", [False, True], ids=["before the other child", "after the other child"])
def test_a_replaced_caption_that_was_written_last_is_overwritten_once(
    database: Database, connection: Connection, end: Callable[[Connection, WriteBack], Ended], *, is_finished: bool
) -> None:
    """The slow child ends before or after the child with the newer caption, whose write it may have undone."""
    row_id = caption_object(database, G1)
    edit(database, "first")
    slow = claim(connection, SLOW)
    edit(database, "second")
    other = claim(connection, OTHER)
    if is_finished:
        assert finish(connection, other).held
    ended = end(connection, slow)
    assert (ended.held, ended.others.next_in_s) == (False, 0)
    assert row_of(connection, row_id)["metadata_written_at"] is None
    if not is_finished:
        assert not finish(connection, other).held
    third = claim(connection, THIRD)
    assert third.caption == "second"
    assert finish(connection, third).held
    assert claims.claim(connection, 0, LEASE_S, THIRD).work is None


def test_a_slow_child_with_the_same_caption_makes_no_work(database: Database, connection: Connection) -> None:
    """Its lease ran out: two such children would else take turns for ever."""
    row_id = caption_object(database, G1)
    edit(database, "first")
    slow = claim(connection, SLOW)
    end_waits(connection)
    other = claim(connection, OTHER)
    assert finish(connection, other).held
    before = row_of(connection, row_id)
    assert not finish(connection, slow).held
    assert not postpone(connection, slow).held
    assert row_of(connection, row_id) == before


def test_a_repeated_postponement_keeps_the_back_off(database: Database, connection: Connection) -> None:
    """The answer to the first COMMIT was lost."""
    row_id = caption_object(database, G1)
    edit(database, "first")
    write_back = claim(connection, SLOW)
    assert postpone(connection, write_back).held
    before = row_of(connection, row_id)
    assert not postpone(connection, write_back).held
    assert row_of(connection, row_id) == before


def test_a_replaced_caption_is_overwritten_after_a_redo_that_failed(
    database: Database, connection: Connection
) -> None:
    """The slow child ends while the row waits for the model: the attempt keeps its row."""
    row_id = fail_object(database, G1, "invalid_image", "no image")
    edit(database, "first")
    slow = claim(connection, SLOW)
    edit(database, "second")
    assert finish(connection, claim(connection, OTHER)).held
    with database.transaction() as of_bob:
        edits.revert(of_bob, TARGET, "Bob", None)
    model = take(connection, row_id)
    assert not finish(connection, slow).held
    assert attempts.fail(connection, model, "invalid_image", "no image").held
    assert claim(connection, THIRD).caption == "second"
