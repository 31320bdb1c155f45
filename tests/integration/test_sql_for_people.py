"""SQL for people: the queries of docs/captions-in-sql.md, comments, views and the search function."""

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest
from psycopg.rows import TupleRow
from sqlalchemy import Connection, text

from benchmarks.query_plans import fill, nested_plans_of, plans_of

_PAGE = Path(__file__).resolve().parents[2] / "docs"
#: Without those of LISTEN, which have no rows.
QUERIES = [
    query
    for query in re.findall(r"```sql\n(.*?)```", (_PAGE / "captions-in-sql.md").read_text(), re.DOTALL)
    if not query.startswith("LISTEN")
]
_CODES = re.compile(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", re.MULTILINE)
#: Captions, one of a person, boxes, a failure, identical images, a further task, a queued row, a replaced one.
ROWS = """
    INSERT INTO captions (bucket, object_name, generation, task, status, caption, result, model, model_revision,
                          captioned_at, event_time, md5_hash, width, height, size_bytes, write_back, error_code,
                          error)
    VALUES
      ('dropline-drops', 'photo.jpg', 1, '<CAPTION>', 'captioned', 'a red circle on a square', NULL, 'demo', 'r1',
       now(), now() - interval '2 s', 'same', 64, 48, 900, true, NULL, NULL),
      ('dropline-drops', 'copy.jpg', 1, '<CAPTION>', 'captioned', 'a blue triangle', NULL, 'demo', 'r1',
       now(), now() - interval '3 s', 'same', 64, 48, 900, true, 'metadata_left_out', 'no room'),
      ('dropline-drops', 'photo.jpg', 1, '<OD>', 'captioned', 'cat, dog',
       '{"bboxes": [[1, 2, 30, 40], [5, 6, 7, 8]], "labels": ["cat", "dog"]}', 'demo', 'r1',
       now(), now(), NULL, 64, 48, 900, false, NULL, NULL),
      ('dropline-drops', 'text.jpg', 1, '<OCR_WITH_REGION>', 'captioned', 'STOP',
       '{"quad_boxes": [[1, 2, 9, 3, 8, 12, 0, 11]], "labels": ["STOP"]}', 'demo', 'r1',
       now(), now(), NULL, 64, 48, 900, true, NULL, NULL),
      ('dropline-drops', 'odd.jpg', 1, '<OD>', 'captioned', 'odd',
       '{"bboxes": [["x", null, 3, 4], 5], "labels": "none"}', 'demo', 'r1',
       now(), now(), NULL, 64, 48, 900, true, NULL, NULL),
      ('dropline-drops', 'broken.jpg', 1, '<CAPTION>', 'failed', NULL, NULL, NULL, NULL, NULL, now(), NULL, NULL,
       NULL, 9, true, 'corrupt_image', 'the file is damaged'),
      ('dropline-drops', 'new.jpg', 1, '<CAPTION>', 'queued', NULL, NULL, NULL, NULL, NULL, now(), NULL, NULL,
       NULL, 9, true, NULL, NULL);
    INSERT INTO caption_history (caption_id, caption, model) SELECT id, 'a square', 'older' FROM captions LIMIT 1;
    UPDATE captions SET edited_by = 'ida', edited_at = now() WHERE object_name = 'copy.jpg';
    INSERT INTO filtered_events (day, bucket, reason, setting, slot, events, last_at)
    VALUES (current_date, 'dropline-drops', 'excluded', 'DROPLINE_EVENTS__EXCLUDE', 1, 3, now());
    INSERT INTO workers (name, host, model, model_revision, device, largest_batch)
    VALUES ('w1', 'h', 'demo', 'r1', 'cpu', 4);
"""


@pytest.fixture
def superuser(database_url: str) -> Iterator[psycopg.Connection[TupleRow]]:
    """A connection with all rights, and the rows."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(ROWS)
        yield connection


@pytest.fixture
def reader(superuser: psycopg.Connection[TupleRow]) -> psycopg.Connection[TupleRow]:
    """With the rights of dropline_reader."""
    superuser.execute("SET ROLE dropline_reader")
    superuser.execute("SET default_transaction_read_only = on")
    return superuser


def test_the_page_has_twenty_queries() -> None:
    """So the next test does not pass for lack of queries."""
    assert len(QUERIES) >= 20


@pytest.mark.parametrize("query", QUERIES, ids=range(len(QUERIES)))
def test_each_query_of_the_page_finds_rows(reader: psycopg.Connection[TupleRow], query: str) -> None:
    """As the reader, in a database with rows of each kind."""
    assert reader.execute(query.encode()).fetchall()


UNCOMMENTED: LiteralString = """
    SELECT relname || coalesce('.' || attname, '') FROM pg_class
    LEFT JOIN pg_attribute ON attrelid = pg_class.oid AND attnum > 0 AND NOT attisdropped
    WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v') AND relname <> 'alembic_version'
      AND (col_description(pg_class.oid, attnum) IS NULL OR obj_description(pg_class.oid, 'pg_class') IS NULL)
    ORDER BY 1
"""


def test_each_column_has_a_comment(superuser: psycopg.Connection[TupleRow]) -> None:
    """Of each table and view; a new column needs one in the migration that adds it."""
    assert superuser.execute(UNCOMMENTED).fetchall() == []


def test_tables_that_belong_to_a_row_lose_their_rows_with_it(superuser: psycopg.Connection[TupleRow]) -> None:
    """A purge deletes a row with its copy and its history, whatever references it."""
    references = superuser.execute(
        "SELECT conrelid::regclass::text, confdeltype::text FROM pg_constraint "
        "WHERE confrelid = 'captions'::regclass"
    ).fetchall()
    assert set(references) == {("caption_search", "c"), ("caption_history", "c")}
    superuser.execute("DELETE FROM captions")
    for table in ("caption_search", "caption_history"):
        assert superuser.execute(f"SELECT * FROM {table}".encode()).fetchall() == []


def test_each_error_code_of_the_docs_has_a_remedy(superuser: psycopg.Connection[TupleRow]) -> None:
    """Of failed rows: those of the page, except codes that are in logs alone or of captioned rows."""
    page = (_PAGE / "error-codes.md").read_text()
    page = page[: page.index("## ", page.index("## Services around the worker") + 3)]
    lines = [line for line in page.splitlines() if "in logs only" not in line]
    codes = [code for line in _CODES.findall("\n".join(lines)) for code in re.findall(r"`([a-z_]+)`", line)]
    assert len(codes) > 25
    superuser.execute("UPDATE captions SET status = 'failed', error_code = 'x', error = 'y' WHERE caption IS NULL")
    general = superuser.execute("SELECT DISTINCT remedy FROM failures").fetchall()
    assert len(general) == 1
    for code in codes:
        superuser.execute("UPDATE captions SET error_code = %s WHERE status = 'failed'", [code])
        found = superuser.execute("SELECT remedy FROM failures").fetchone()
        assert found, code
        assert found != general[0] or code in {"storage_refused", "statement_refused", "decoder_unavailable"}, code


def test_boxes_as_rows(reader: psycopg.Connection[TupleRow]) -> None:
    """Boxes, lines of text by the box around each, and a wrong answer without an error."""
    boxes = reader.execute(
        "SELECT object_name, number, label, x1, y1, x2, y2 FROM caption_boxes WHERE x1 IS NOT NULL ORDER BY 1, 2"
    ).fetchall()
    assert boxes == [
        ("odd.jpg", 1, None, 3, 4, 3, 4),
        ("photo.jpg", 1, "cat", 1, 2, 30, 40),
        ("photo.jpg", 2, "dog", 5, 6, 7, 8),
        ("text.jpg", 1, "STOP", 0, 2, 9, 12),
    ]


def test_statistics_have_each_day(superuser: psycopg.Connection[TupleRow]) -> None:
    """Days by UTC, without days that have no caption."""
    superuser.execute("UPDATE captions SET captioned_at = '2026-01-01T23:30Z' WHERE object_name = 'photo.jpg'")
    superuser.execute("SET TimeZone = 'Asia/Tokyo'")
    found = superuser.execute(
        "SELECT day::text, task, captions FROM caption_stats WHERE day < '2026-02-01' ORDER BY task"
    ).fetchall()
    assert found == [("2026-01-01", "<CAPTION>", 1), ("2026-01-01", "<OD>", 1)]
    days = superuser.execute("SELECT count(DISTINCT day) FROM caption_stats").fetchone()
    assert days == (2,)


def test_views_with_a_condition_read_an_index(connection: Connection, database_url: str) -> None:
    """No view reads the whole table where a condition leaves few rows."""
    with psycopg.connect(database_url, autocommit=True) as superuser:
        fill(superuser, 30_000)
        superuser.execute(
            "UPDATE captions SET result = '{}', "
            "captioned_at = captioned_at - make_interval(hours => 30000 - id::int) WHERE status = 'captioned'"
        )
        superuser.execute("VACUUM ANALYZE captions")
    for query in (
        "SELECT * FROM caption_stats WHERE day >= current_date - 7",
        "SELECT * FROM failures WHERE object_name = 'holiday/0/IMG_300.jpg'",
        "SELECT * FROM failures WHERE error_code = 'other'",
        "SELECT * FROM caption_boxes WHERE object_name = 'holiday/10/IMG_10.jpg'",
        "SELECT * FROM caption_boxes WHERE captioned_at > now() - interval '1 day'",
    ):
        (plan,) = plans_of(connection, partial(connection.execute, text(query)))
        assert not plan.scans_captions, (query, plan)
        assert plan.rows_read <= 3_000, (query, plan)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("'red or blue'", ["copy.jpg", "photo.jpg"]),
        ("'red or blue', 1", ["copy.jpg"]),
        ("'red -square'", []),
        ("'squares'", ["photo.jpg"]),
        ("'red or blue', name_prefix => 'ph'", ["photo.jpg"]),
        ("'red or circle or blue', 1, ranked => true", ["photo.jpg"]),
    ],
)
def test_the_search_function(reader: psycopg.Connection[TupleRow], arguments: str, expected: list[str]) -> None:
    """The newest first, or the best first; neither overwritten rows nor parts of words."""
    found = reader.execute(f"SELECT object_name FROM search_captions({arguments})".encode()).fetchall()
    assert [name for (name,) in found] == expected


def test_the_search_function_finds_the_same_by_both_ways(connection: Connection, database_url: str) -> None:
    """A frequent word by a walk, and a rare one by the index, also beyond the newest captions."""
    with psycopg.connect(database_url, autocommit=True) as superuser:
        fill(superuser, 12_000)
    for word, most in (("dog", 20), ("armadillo", 20), ("red", 5_000)):
        expected = text(
            "SELECT id FROM captions WHERE to_tsvector('english', caption) @@ "
            "websearch_to_tsquery('english', :word) ORDER BY id DESC LIMIT :most"
        )
        found = text("SELECT id FROM search_captions(:word, :most)")
        values = {"word": word, "most": most}
        assert connection.execute(found, values).all() == connection.execute(expected, values).all()
    for word, index in (("dog", "pk_caption_search"), ("armadillo", "ix_caption_search_words")):
        plans = nested_plans_of(connection, partial(connection.execute, found, {"word": word, "most": 5}))
        assert any(index in plan.indexes for plan in plans)
        # Those of the newest 5,000, not all 12,000: the walk ends with the fifth hit.
        assert max(plan.rows_read for plan in plans) <= 5_000, (word, plans)
