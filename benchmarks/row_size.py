"""Size of a caption in Postgres: typical rows through the real schema and statements, in both tables.

    python -m benchmarks.row_size [--rows 20000] [--words 11]

Every row is registered, claimed, captioned and written back, so the sizes include the dead tuples of updates.
VACUUM runs after every tenth of the rows, like autovacuum. fsync is off, which changes times and no size.
"""

import random
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import psycopg
import typer
from pydantic import SecretStr

from benchmarks.figures import Figure, section, shown
from benchmarks.stack import open_directory
from db import attempts, claims, object_rows
from db.session import Database
from dropline.contract import (
    Caption,
    Claim,
    Dimensions,
    ObjectFacts,
    ObjectVersion,
    SeenMetadata,
    TaskRequest,
    WriteBack,
    WriteOutcome,
)
from dropline.errors import DroplineError
from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION, DatabaseSettings
from local_emulators import database, postgres
from local_emulators.directory import Passwords
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor

_CHILD = "benchmark/1"
_BUCKET = "my-project-dropline-drops"
_GENERATION = 1_760_000_000_000_000
#: Rows between two VACUUMs: a tenth.
_ROUNDS = 10
_SYLLABLES = ("ba", "co", "di", "fe", "gu", "ha", "jo", "ki", "le", "mu", "na", "po", "ri", "se", "tu", "wa")
_SMALL_WORDS = ("a", "the", "of", "with", "on", "in", "and", "is", "to", "at")
_VOCABULARY = 4000

_SIZES = """
    SELECT sum(pg_relation_size(name))::bigint, sum(pg_indexes_size(name))::bigint,
           sum(pg_total_relation_size(name))::bigint
    FROM unnest(ARRAY['captions', 'caption_search']::regclass[]) AS name
"""
_INDEX_SIZES = """
    SELECT indexrelname, pg_relation_size(indexrelid) FROM pg_stat_user_indexes
    WHERE relname IN ('captions', 'caption_search') ORDER BY 2 DESC
"""


@dataclass(frozen=True)
class TableSizes:
    """Bytes on the disk."""

    #: The tables without TOAST and maps.
    heap: int
    indexes: int
    #: Tables, indexes, TOAST and maps.
    total: int


@dataclass(frozen=True)
class RowSizeResult:
    """The size of rows in Postgres."""

    rows: int
    words: int
    caption_bytes: float
    #: After the updates of all rows and VACUUM.
    lived: TableSizes
    #: After VACUUM FULL, the smallest possible size; VACUUM FULL locks a table in use.
    packed: TableSizes
    indexes: dict[str, int]
    #: Bytes of write-ahead log, full-page images included.
    wal: int

    @property
    def title(self) -> str:
        """A heading."""
        return f"Rows with captions of {self.words} words"

    def figures(self) -> list[Figure]:
        """The lines of the report, per row."""
        lived, packed = self.lived, self.packed
        return [
            Figure("rows", f"{self.rows:,}, each registered, claimed, captioned and written back"),
            Figure("caption, on average", f"{shown(self.caption_bytes)} bytes"),
            Figure(
                "**bytes per row**, `captions` and `caption_search` with their indexes",
                f"**{shown(lived.total / self.rows)}**",
            ),
            Figure("of which the tables", shown(lived.heap / self.rows)),
            *(Figure(f"of which {name}", shown(size / self.rows)) for name, size in self.indexes.items()),
            Figure("bytes per row after VACUUM FULL", shown(packed.total / self.rows)),
            Figure("write-ahead log per row, bytes", shown(self.wal / self.rows)),
        ]


def main(
    rows: Annotated[int, typer.Option(help="Rows to insert.", min=_ROUNDS)] = 20_000,
    words: Annotated[list[int] | None, typer.Option(help="Words of a caption; may be repeated.", min=1)] = None,
) -> None:
    """Measure bytes per row in a new Postgres."""
    try:
        for count in words or [11, 75]:
            result = measure_row_size(rows, count)
            typer.echo("\n".join(section(result.title, result.figures())))
    except DroplineError as error:
        typer.echo(f"There is no result: {error}", err=True)
        raise typer.Exit(1) from None


def measure_row_size(rows: int, words: int) -> RowSizeResult:
    """Insert `rows` rows into a fresh database and read its sizes.

    Raises:
        LocalStackError: Postgres does not start.
    """
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        server = postgres.start(supervisor, directory / "postgres", free_ports(1)[0], "benchmark", "fsync=off")
        passwords = Passwords.load_or_make(directory / "passwords.json")
        urls = database.prepare(server, passwords)
        with psycopg.connect(server.url_for("dropline"), autocommit=True) as superuser:
            return _measured(urls.deploy, superuser, rows, words)


def _measured(url: str, superuser: psycopg.Connection[tuple[Any, ...]], rows: int, words: int) -> RowSizeResult:
    captions = list(_captions(rows, words))
    before = _scalar(superuser, "SELECT pg_current_wal_insert_lsn()")
    settings = DatabaseSettings(url=SecretStr(url))
    with closing(Database.connect(settings, "dropline-benchmark", connections=1)) as captions_database:
        _insert(captions_database, superuser, captions)
    wal = _scalar(superuser, f"SELECT pg_current_wal_insert_lsn() - '{before}'::pg_lsn")
    lived, indexes = _sizes(superuser), _index_sizes(superuser)
    superuser.execute("VACUUM FULL captions, caption_search")
    return RowSizeResult(rows, words, sum(map(len, captions)) / rows, lived, _sizes(superuser), indexes, int(wal))


def _insert(
    captions_database: Database, superuser: psycopg.Connection[tuple[Any, ...]], captions: list[str]
) -> None:
    step = max(1, len(captions) // _ROUNDS)
    for number, caption in enumerate(captions):
        _insert_and_update(captions_database, number, caption)
        if number % step == step - 1:
            superuser.execute("VACUUM captions, caption_search")
    superuser.execute("VACUUM captions, caption_search")


def _insert_and_update(captions_database: Database, number: int, caption: str) -> None:
    version = ObjectVersion(_BUCKET, f"uploads/2026/11/IMG_{number:08}.jpg", _GENERATION + number * 7919)
    facts = ObjectFacts(
        "image/jpeg",
        438_000 + number,
        "1B2M2Y8AsgTpgAmY7PhCfg==",
        "AAAAAA==",
        datetime.now(UTC),
        SeenMetadata(1, 0),
    )
    with captions_database.transaction() as connection:
        row = object_rows.register_object(connection, version, facts, TaskRequest.parse("<CAPTION>"))
    with captions_database.transaction() as connection:
        claim = claims.claim(connection, row.row_id, 180, _CHILD).work
    if not isinstance(claim, Claim):
        raise DroplineError(f"row {row.row_id} could not be claimed, so it was not there alone")
    write_back = WriteBack(row.row_id, version, "<CAPTION>", caption, DEFAULT_CHECKPOINT, _CHILD)
    answer = Caption(caption, None, DEFAULT_CHECKPOINT, DEFAULT_REVISION)
    with captions_database.transaction() as connection:
        attempts.record_caption(
            connection, claim, answer, Dimensions(1600, 1200), size_bytes=438_000 + number, write_back_lease_s=180
        )
    with captions_database.transaction() as connection:
        attempts.finish_write_back(connection, write_back, WriteOutcome(written=True))


def _captions(count: int, words: int) -> Iterator[str]:
    """Made-up words with the frequencies of a language (Zipf), a third of them short."""
    chance = random.Random(20261122)
    vocabulary = ["".join(chance.choices(_SYLLABLES, k=chance.randint(2, 4))) for _ in range(_VOCABULARY)]
    weights = [1 / rank for rank in range(1, _VOCABULARY + 1)]
    for _ in range(count):
        rare = iter(chance.choices(vocabulary, weights, k=words))
        yield " ".join(chance.choice(_SMALL_WORDS) if n % 3 == 0 else next(rare) for n in range(words))


def _sizes(superuser: psycopg.Connection[tuple[Any, ...]]) -> TableSizes:
    row = superuser.execute(_SIZES).fetchone()
    assert row is not None
    return TableSizes(*row)


def _index_sizes(superuser: psycopg.Connection[tuple[Any, ...]]) -> dict[str, int]:
    return {str(name): int(size) for name, size in superuser.execute(_INDEX_SIZES).fetchall()}


def _scalar(superuser: psycopg.Connection[tuple[Any, ...]], query: str) -> Any:
    row = superuser.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


if __name__ == "__main__":
    typer.run(main)
