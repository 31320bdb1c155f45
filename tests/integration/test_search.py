"""Searches of the gallery: which rows match, their order, and the pages of a long list."""

from collections.abc import Sequence
from functools import partial

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from benchmarks.query_plans import fill, page_queries, plans_of
from db import attempts, object_rows, reads, search, word_search
from db.reads import CaptionRecord
from db.search import Search
from dropline.contract import ObjectVersion, Status, TaskPrompt, TaskRequest
from tests.support.rows import OTHER_TASK, TASK, drop, record, take

#: As on the page of SQL, the newest first.
IN_SQL = text("""
    SELECT object_name, caption FROM current_captions
    WHERE to_tsvector('english', caption) @@ websearch_to_tsquery('english', :word) ORDER BY id DESC LIMIT 10
""")
OBJECTS = TaskRequest(TaskPrompt.OD)


def names(rows: Sequence[CaptionRecord]) -> list[str]:
    """The object names of rows."""
    return [row.object_name for row in rows]


def found(connection: Connection, wanted: Search) -> list[str]:
    """The names of all rows that match."""
    return names(search.newest(connection, wanted, None, 100))


def an_object(name: str, generation: int = 1, bucket: str = "drops") -> ObjectVersion:
    """An object version."""
    return ObjectVersion(bucket, name, generation)


def captioned(connection: Connection, name: str, words: str, task: TaskRequest = TASK) -> int:
    """A captioned row: its id."""
    row_id = drop(connection, an_object(name), task)
    record(connection, take(connection, row_id), words)
    return row_id


@pytest.fixture
def pictures(connection: Connection) -> Connection:
    """A table with rows of each kind."""
    captioned(connection, "a/circle.png", "two red circles above a 100% black line")
    captioned(connection, "a/triangle.png", "a red triangle")
    captioned(connection, "b/cat.png", "cat, dog", OBJECTS)
    failed = drop(connection, an_object("b/broken.png"))
    attempts.fail(connection, take(connection, failed), "corrupt_image", "damaged")
    drop(connection, an_object("c/new.png"), OTHER_TASK)
    object_rows.tombstone(connection, an_object("c/tombstone.png"))
    return connection


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red", ["a/triangle.png", "a/circle.png"]),
        ("red tri", ["a/triangle.png"]),
        ("circle", ["a/circle.png"]),
        ('"black line"', ["a/circle.png"]),
        ("red -triangle", ["a/circle.png"]),
        ("red -- triangle", ["a/triangle.png"]),
        ("-" * 500 + " triangle - - -", ["a/triangle.png"]),
        ("-" * 500, []),
        ("triangle or dog", ["b/cat.png", "a/triangle.png"]),
        ("rcle", ["a/circle.png"]),
        ("100%", ["a/circle.png"]),
        ("1%0", []),
        ("r_d", []),
        ("zebra", []),
        ("  ", ["c/new.png", "b/broken.png", "b/cat.png", "a/triangle.png", "a/circle.png"]),
    ],
)
def test_words_find_captions(pictures: Connection, words: str, expected: list[str]) -> None:
    """Whole words in any form, beginnings, parts, and the signs of search engines; no sign of SQL."""
    assert found(pictures, Search(words)) == expected


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Search(statuses=(Status.FAILED, Status.QUEUED)), ["c/new.png", "b/broken.png"]),
        (Search(task="<OD>"), ["b/cat.png"]),
        (Search(task="<OPEN_VOCABULARY_DETECTION>"), ["c/new.png"]),
        (Search(prefix="a/"), ["a/triangle.png", "a/circle.png"]),
        (Search(prefix="%/"), []),
        (Search(model="demo", prefix="b/"), ["b/cat.png"]),
        (Search(error_code="corrupt_image"), ["b/broken.png"]),
        (Search(bucket="others"), []),
        (Search("red", prefix="a/t"), ["a/triangle.png"]),
    ],
)
def test_filters_narrow_the_list(pictures: Connection, wanted: Search, expected: list[str]) -> None:
    """All conditions of a search hold for each row."""
    assert found(pictures, wanted) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red", ["a/triangle.png", "a/circle.png"]),
        ("circ", ["a/circle.png"]),
        ("rcle", ["a/circle.png"]),
        ("red -triangle", ["a/circle.png"]),
        ("ca", ["b/cat.png"]),
        ("cl", []),
    ],
)
def test_words_find_old_captions_by_index(
    pictures: Connection, monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]
) -> None:
    """Beyond the last captions, indexes find whole words, beginnings, and parts of three characters."""
    monkeypatch.setattr(word_search, "_WINDOW", 2)
    assert found(pictures, Search(words)) == expected
    assert names(search.newest(pictures, Search(words), None, 1)) == expected[:1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20))
def test_no_text_is_an_error(connection: Connection, words: str) -> None:
    """Whatever a person types, or sends, Postgres takes the statement."""
    found(connection, Search(words, prefix=words, task=words, model=words, bucket=words))


def test_pages_have_each_row_once(connection: Connection) -> None:
    """A row that arrives between two pages is on neither."""
    ids = [drop(connection, an_object(f"{n}.png")) for n in range(7)]
    first = search.newest(connection, Search(), None, 3)
    drop(connection, an_object("late.png"))
    second = search.newest(connection, Search(), first[-1].id, 100)
    assert [row.id for row in (*first, *second)] == ids[::-1]


def test_neighbours_match_too(pictures: Connection) -> None:
    """The next picture on either side is one of the list."""
    circle, triangle = (
        search.newest(pictures, Search(prefix=prefix), None, 1)[0] for prefix in ("a/circle", "a/triangle")
    )
    newer, older = search.neighbours(pictures, Search("red"), circle.id)
    assert (newer and newer.id, older) == (triangle.id, None)


@pytest.mark.parametrize("nearest", [1, 5_000])
def test_words_lead_to_the_same_neighbours_near_and_far(
    pictures: Connection, monkeypatch: pytest.MonkeyPatch, nearest: int
) -> None:
    """The next newer picture may be beyond the captions that are read without an index."""
    monkeypatch.setattr(word_search, "_WINDOW", nearest)
    circle, cat = (search.newest(pictures, Search(prefix=prefix), None, 1)[0] for prefix in ("a/circle", "b/cat"))
    newer, _ = search.neighbours(pictures, Search("dog"), circle.id)
    assert newer
    assert newer.id == cat.id
    assert search.neighbours(pictures, Search("dog"), cat.id) == (None, None)


def test_no_read_of_the_page_reads_a_long_table(connection: Connection, database_url: str) -> None:
    """Each statement uses an index, and reads a small part of the rows."""
    rows = 30_000
    with psycopg.connect(database_url, autocommit=True) as superuser:
        fill(superuser, rows)
    for name, call in page_queries(connection, rows):
        for plan in plans_of(connection, call):
            assert not plan.scans_captions, (name, plan)
            assert plan.rows_read <= 7_000, (name, plan)
    for counting in (reads.status_counts, reads.failures, lambda read: reads.rows_changed_since(read, 1, 10)):
        assert not any(plan.scans_captions for plan in plans_of(connection, partial(counting, connection)))
    for word, index in (("armadillo", "ix_caption_search_words"), ("number", "pk_caption_search")):
        (plan,) = plans_of(connection, partial(connection.execute, IN_SQL, {"word": word}))
        assert index in plan.indexes, (word, plan)
        assert not plan.scans_captions


_QUEUED = """
    INSERT INTO captions (bucket, object_name, generation, task, status)
    SELECT 'drops', 'new/IMG_' || n || '.jpg', n, '<CAPTION>', 'queued' FROM generate_series(1, 6000) AS n
"""


def test_a_search_in_sql_does_not_read_the_newest_rows_without_a_caption(
    connection: Connection, database_url: str
) -> None:
    """Postgres walks the captions, not the rows: thousands of queued ones are newer than the first caption."""
    with psycopg.connect(database_url, autocommit=True) as superuser:
        fill(superuser, 30_000)
        superuser.execute(_QUEUED)
        superuser.execute("ANALYZE captions")
    (plan,) = plans_of(connection, partial(connection.execute, IN_SQL, {"word": "number"}))
    assert "pk_caption_search" in plan.indexes
    assert plan.rows_read <= 20, plan


def test_the_best_matches_come_first(pictures: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caption with more of the words in fewer others is the best one, though it is not the newest."""
    captioned(pictures, "d/1.png", "a boat, another boat and a third boat")
    captioned(pictures, "d/2.png", "a wide river with a boat on it below a grey sky of many clouds")
    captioned(pictures, "d/3.png", "a boat")
    captioned(pictures, "d/4.png", "a boat")
    best = search.best(pictures, Search("boat"), 3)
    assert names(best) == ["d/1.png", "d/4.png", "d/3.png"]
    assert names(search.best(pictures, Search("boat", prefix="d/2"), 3)) == ["d/2.png"]
    assert search.best(pictures, Search(" "), 3) == []
    monkeypatch.setattr(word_search, "CANDIDATES", 2)
    assert names(search.best(pictures, Search("boat"), 3)) == ["d/4.png", "d/3.png"]


def test_a_row_without_a_caption_and_a_filter_stand_between(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Near, next and far captions give the list of one read, in both directions, with and without a filter."""
    ids = [captioned(connection, f"{n % 3}/{n}.png", "a red dog" if n % 2 else "a cat") for n in range(24)]
    drop(connection, an_object("queued.png"))
    for prefix, step in (("", 1), ("0/", 3)):
        wanted = Search("red", prefix=prefix)
        expected = [row_id for n, row_id in enumerate(ids) if n % 2 and not (prefix and n % step)][::-1]
        for window in (1, 3, 5_000):
            monkeypatch.setattr(word_search, "_WINDOW", window)
            assert [row.id for row in search.newest(connection, wanted, None, 100)] == expected
            assert [row.id for row in search.newest(connection, wanted, expected[0], 2)] == expected[1:3]
            newer, older = search.neighbours(connection, wanted, expected[2])
            assert (newer and newer.id, older and older.id) == (expected[1], expected[3])


def test_a_copy_changes_with_its_caption_alone(connection: Connection) -> None:
    """Changes of state do not write the table that is searched; a new caption, no caption and no row do."""
    copy = text("SELECT caption, xmin::text FROM caption_search")
    row_id = captioned(connection, "a.png", "a red dog")
    connection.commit()
    written = connection.execute(copy).one()
    for state in (
        "redo = true",
        "lease_until = now()",
        "lease_until = NULL, redo = false",
        "status = 'superseded'",
        "status = 'captioned'",
    ):
        connection.execute(text(f"UPDATE captions SET {state}"))
        connection.commit()
    assert connection.execute(copy).one() == written
    connection.execute(text("UPDATE captions SET caption = 'a cat'"))
    assert (found(connection, Search("dog")), found(connection, Search("cat"))) == ([], ["a.png"])
    connection.execute(text("UPDATE captions SET status = 'deleted', caption = NULL"))
    assert connection.execute(copy).all() == []
    connection.execute(text("UPDATE captions SET caption = 'back'"))
    connection.execute(text("DELETE FROM captions WHERE id = :row_id"), {"row_id": row_id})
    assert connection.execute(copy).all() == []


def test_rows_by_their_keys(pictures: Connection) -> None:
    """Keys without a row, and rows that do not match, are left out."""
    keys = [
        (an_object("a/circle.png"), str(TASK)),
        (an_object("b/cat.png"), str(OBJECTS)),
        (an_object("b/cat.png", 2), str(OBJECTS)),
    ]
    assert names(search.matching(pictures, Search(), keys)) == ["b/cat.png", "a/circle.png"]
    assert names(search.matching(pictures, Search("red"), keys)) == ["a/circle.png"]
    assert search.matching(pictures, Search(), []) == []


def test_models_and_traffic(pictures: Connection) -> None:
    """The numbers of the strip, and the choices of a filter."""
    assert search.recent_models(pictures) == ["demo"]
    drop(pictures, an_object("d.png"))
    take(pictures, drop(pictures, an_object("running.png")))
    pictures.execute(text("UPDATE captions SET captioned_at = now() - interval '61 s' WHERE caption LIKE 'cat%'"))
    traffic = search.traffic(pictures)
    assert (traffic.captioned, traffic.waiting, traffic.failed) == (2, 3, 1)
    oldest = pictures.execute(text("SELECT min(queued_at) FROM captions WHERE status = 'queued'")).scalar_one()
    assert traffic.oldest_queued_at == oldest
