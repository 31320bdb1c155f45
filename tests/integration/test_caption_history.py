"""Replaced captions are kept, once each, on a real Postgres."""

from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection, text

from db import attempts
from db.session import Database
from dropline.contract import Caption
from tests.support.engines import wait_until
from tests.support.rows import (
    G1,
    IMAGE,
    caption_object,
    drop,
    finish_write_back,
    history_of,
    record,
    redo,
    row_of,
    take,
)

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_a_replaced_caption_is_kept_with_its_model_and_time(connection: Connection) -> None:
    """All that belongs to the caption; a first caption replaces none, and neither does a second record of it."""
    row_id = drop(connection, G1)
    first = take(connection, row_id)
    old = Caption("two dogs", {"labels": ["dog"]}, "old", "r0")
    for _ in range(2):
        assert attempts.record_caption(connection, first, old, IMAGE, size_bytes=1, write_back_lease_s=None).held
    assert history_of(connection, row_id) == []
    before = row_of(connection, row_id)
    redo(connection, row_id)
    taken = take(connection, row_id)
    for _ in range(2):
        assert record(connection, taken, "a wolf")
    (kept,) = connection.execute(text("SELECT * FROM caption_history")).mappings()
    assert (kept["caption"], kept["result"], kept["model"], kept["model_revision"]) == (
        "two dogs",
        {"labels": ["dog"]},
        "old",
        "r0",
    )
    assert kept["captioned_at"] == before["captioned_at"]
    assert (kept["edited_by"], kept["edited_at"]) == (None, None)
    assert before["captioned_at"] < kept["replaced_at"] <= row_of(connection, row_id)["captioned_at"]


def test_two_records_of_an_attempt_at_once_keep_the_old_caption_once(database: Database) -> None:
    """The first COMMIT is not answered, and the child records again while Postgres still works on the first."""
    row_id = caption_object(database, G1)
    with database.transaction() as connection:
        redo(connection, row_id)
    with database.transaction() as connection:
        taken = take(connection, row_id)
    with database.transaction() as first, database.statement() as observer, ThreadPoolExecutor() as pool:
        assert record(first, taken, "a wolf")

        def repeat() -> bool:
            with database.transaction() as connection:
                return record(connection, taken, "a wolf")

        second = pool.submit(repeat)
        wait_until(lambda: observer.execute(text(WAITING)).scalar_one() == 1)
        first.commit()
        assert second.result(60)
    with database.transaction() as connection:
        assert history_of(connection, row_id) == ["a red circle"]


def test_a_caption_that_is_recorded_again_is_not_in_the_metadata_yet(connection: Connection) -> None:
    """The object has the old caption until the write-back."""
    row_id = drop(connection, G1)
    record(connection, take(connection, row_id), write_back=True)
    assert finish_write_back(connection, row_id, written=True)
    redo(connection, row_id)
    assert row_of(connection, row_id)["metadata_written_at"] is not None
    assert record(connection, take(connection, row_id), "a wolf", write_back=True)
    assert row_of(connection, row_id)["metadata_written_at"] is None
