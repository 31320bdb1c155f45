"""Notifications of changed rows: one for each transition, at the commit of its transaction."""

import itertools

from sqlalchemy import text

from db import object_rows
from db.listen import listening
from db.session import Database
from dropline.contract import ObjectVersion, Status
from tests.support.rows import (
    G1,
    G2,
    caption_object,
    caption_row,
    drop,
    end_waits,
    fail_object,
    finish_write_back,
    row_of,
    settings_of,
    take,
)


def test_every_transition_is_notified_once_and_in_order(database: Database, database_url: str) -> None:
    """Every change of status and the written metadata send a notice; a claim and a duplicate event do not."""
    with listening(settings_of(database_url), "test") as listener:
        row_id = caption_object(database, G1)
        with database.transaction() as connection:
            drop(connection, G1)
            finish_write_back(connection, row_id, written=True)
        with database.transaction() as connection:
            object_rows.tombstone(connection, G1)
        heard = []
        for notice in listener.notices(60):
            assert (notice.id, notice.object_name, notice.generation) == (row_id, "a.jpg", 1)
            heard.append((notice.status.value, notice.metadata_written))
            if notice.status is Status.DELETED:
                break
    expected = [
        ("queued", False),
        ("captioned", False),
        ("captioned", True),
        ("deleted", True),
    ]
    assert heard == expected


def test_a_rollback_sends_no_notice(database: Database, database_url: str) -> None:
    """A rolled back transaction sends no notice: the next received notice is of another row."""
    with listening(settings_of(database_url), "test") as listener:
        with database.transaction() as connection:
            drop(connection, G1)
            connection.rollback()
        with database.transaction() as connection:
            drop(connection, G2)
        assert next(listener.notices(60)).generation == 2


def test_a_notice_is_sent_at_the_commit(database: Database, database_url: str) -> None:
    """A listener can read the row of a notice: the first commit of two transactions sends the first notice."""
    with listening(settings_of(database_url), "test") as listener:
        with database.transaction() as late, database.transaction() as early:
            drop(late, G1)
            drop(early, ObjectVersion("drops", "b.jpg", 1))
            early.commit()
            assert next(listener.notices(60)).object_name == "b.jpg"
        assert next(listener.notices(60)).object_name == "a.jpg"


def test_failures_are_notified(database: Database, database_url: str) -> None:
    """A failed row sends notices like a caption: queued at the event, then failed."""
    with listening(settings_of(database_url), "test") as listener:
        fail_object(database, G1, "code", "words")
        # Two transitions in one transaction: Postgres sends both, since the payloads differ.
        heard = list(itertools.islice((notice.status for notice in listener.notices(60)), 2))
    assert heard == [Status.QUEUED, Status.FAILED]


def test_a_notice_has_the_number_of_its_transaction(database: Database, database_url: str) -> None:
    """The row has the same number; a change without a notice keeps the number."""
    with listening(settings_of(database_url), "test") as listener:
        with database.transaction() as connection:
            row_id = drop(connection, G1)
            number = connection.execute(text("SELECT pg_current_xact_id()::text::bigint")).scalar_one()
        assert next(listener.notices(60)).changed_in == number
        with database.transaction() as connection:
            assert row_of(connection, row_id)["changed_in"] == number
            connection.execute(text("UPDATE captions SET updated_at = now()"))
            take(connection, row_id)
            assert row_of(connection, row_id)["changed_in"] == number
            end_waits(connection)
        caption_row(database, row_id)
        assert next(listener.notices(60)).changed_in > number
