"""Filters of captions, on a real Postgres: each condition alone, and all of them at once."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, select, text

from db import attempts, object_rows
from db.caption_filter import CaptionFilter, has_newer_generation
from db.models import CaptionRow
from dropline.contract import Caption, ObjectVersion, Status
from tests.support.rows import IMAGE, OTHER_TASK, TASK, drop, take

NOW = datetime(2026, 11, 27, tzinfo=UTC)


@pytest.fixture
def rows(connection: Connection) -> Connection:
    """Four rows and a tombstone."""
    captions = (
        ("drops", "2026/cat_1.jpg", 1, TASK, Caption("a cat", None, "old", "r1"), 30),
        ("drops", "2026/cat%1.jpg", 1, OTHER_TASK, Caption("a cat", None, "old", "r2"), 20),
        ("other", "2026/cat_1.jpg", 7, TASK, Caption("a cat", None, "new", "r1"), 10),
    )
    for bucket, name, generation, task, caption, days in captions:
        row_id = drop(connection, ObjectVersion(bucket, name, generation), task)
        claim = take(connection, row_id)
        assert attempts.record_caption(
            connection, claim, caption, IMAGE, size_bytes=1, write_back_lease_s=None
        ).held
        connection.execute(
            text("UPDATE captions SET captioned_at = :at WHERE id = :id"),
            {"at": NOW - timedelta(days=days), "id": row_id},
        )
    drop(connection, ObjectVersion("drops", "2026/cat_1.jpg", 2))
    object_rows.tombstone(connection, ObjectVersion("drops", "gone.jpg", 1))
    return connection


FILTERS = [
    (CaptionFilter(), {1, 2, 3, 4}),
    (CaptionFilter(objects=(("drops", "2026/cat_1.jpg", None),)), {1, 4}),
    (CaptionFilter(objects=(("drops", "2026/cat_1.jpg", 1), ("other", "2026/cat_1.jpg", 7))), {1, 3}),
    (CaptionFilter(bucket="other"), {3}),
    (CaptionFilter(prefix="2026/cat_"), {1, 3, 4}),
    (CaptionFilter(prefix="2026/cat%"), {2}),
    (CaptionFilter(prefix="2025/"), set()),
    (CaptionFilter(task=str(TASK)), {1, 3, 4}),
    (CaptionFilter(task=OTHER_TASK.prompt.value), {2}),
    (CaptionFilter(task=str(OTHER_TASK)), {2}),
    (CaptionFilter(model="old"), {1, 2}),
    (CaptionFilter(revision="r1"), {1, 3}),
    (CaptionFilter(older_than=NOW - timedelta(days=15)), {1, 2}),
    (CaptionFilter(older_than=NOW - timedelta(days=20)), {1}),
    (CaptionFilter(statuses=(Status.CAPTIONED,)), {1, 2, 3}),
    (CaptionFilter(statuses=(Status.QUEUED, Status.FAILED)), {4}),
    (CaptionFilter(bucket="drops", prefix="2026/", model="old", revision="r1", task=str(TASK)), {1}),
]


def test_a_row_passes_if_every_condition_is_met(rows: Connection) -> None:
    """Underscore and percent sign stand for themselves; a tombstone never passes."""
    for row_filter, expected in FILTERS:
        found = rows.execute(select(CaptionRow.id).where(*row_filter.conditions())).scalars()
        assert set(found) == expected, row_filter


def test_a_newer_generation_is_one_of_the_same_object(rows: Connection) -> None:
    """A deleted one counts unless live ones are asked for."""

    def overwritten(*, live_only: bool) -> set[int]:
        condition = has_newer_generation(live_only=live_only)
        return set(rows.execute(select(CaptionRow.id).where(condition)).scalars())

    assert overwritten(live_only=True) == overwritten(live_only=False) == {1}
    object_rows.tombstone(rows, ObjectVersion("drops", "2026/cat_1.jpg", 2))
    assert (overwritten(live_only=True), overwritten(live_only=False)) == (set(), {1})
