"""The benchmarks that measure sizes and counts, on a few rows, messages and images."""

import psycopg
import pytest

from benchmarks.counts import measure_counts
from benchmarks.drop_at_once import measure_drop
from benchmarks.drop_latency import measure_latency
from benchmarks.long_table import fill, measure, report
from benchmarks.row_size import measure_row_size
from local_emulators.postgres import PostgresServer
from migrations.run import upgrade
from tests.support.processes import linux_only


def test_rows_are_measured_through_the_real_schema() -> None:
    """Table and indexes are at most the whole, VACUUM FULL shrinks the whole, longer captions enlarge it."""
    short, long = measure_row_size(200, 11), measure_row_size(200, 75)
    for result in (short, long):
        assert result.lived.heap + result.lived.indexes <= result.lived.total
        assert result.packed.total <= result.lived.total
        # Free space maps are not part of the sizes of single indexes.
        assert 0 < sum(result.indexes.values()) <= result.lived.indexes
        assert result.wal > 0
    assert long.lived.total > short.lived.total
    assert any("200, each registered" in figure.value for figure in short.figures())


def test_each_call_is_measured_in_a_long_table(postgres_server: PostgresServer) -> None:
    """A short form: each call runs, and reads an index; a word of one caption is in one caption."""
    postgres_server.create_database("long_table")
    url = postgres_server.url_for("long_table")
    upgrade(url)
    fill(url, 6_000, 1_200)
    found = measure(url, 6_000)
    lines = report(found, found, 6_000, 1_200)
    assert len(lines) == len(found) + 4
    assert all(call.plans for call in found.values())
    assert "`ix_captions_due`" in found["claim, the message's row is the first"].reads
    assert "`ix_captions_ended_at`" in found["purge of 500 rows"].reads
    with psycopg.connect(url) as connection:
        counts = connection.execute("SELECT status, count(*) FROM captions GROUP BY status").fetchall()
        assert {status for status, _ in counts} == {"queued", "running", "captioned", "deleted"}
        assert connection.execute("SELECT count(*) FROM captions WHERE caption ~ 'quokka'").fetchone() == (1,)


@linux_only
@pytest.mark.timeout(300)
def test_counts_are_those_of_every_image() -> None:
    """Each image has one message, at least three transactions, and lines in both logs."""
    result = measure_counts(20)
    assert result.commands["lpush"] >= 1
    assert result.transactions >= 3
    assert result.wal_bytes > 0
    assert set(result.log_bytes) == {"function", "worker"}


@linux_only
@pytest.mark.timeout(300)
def test_function_and_worker_go_on_beside_each_other() -> None:
    """Objects dropped at once: all are captioned, some of them before the function has made the last row."""
    result = measure_drop(120, 2)
    assert (result.images, result.captions_meanwhile + result.captions_after) == (120, 120)
    assert result.captions_meanwhile > 0, "no image was captioned before the last row was made"
    assert all(seconds > 0 for seconds in result.cpu_s.values())


@linux_only
@pytest.mark.timeout(300)
def test_the_time_of_a_drop_has_the_arrival_at_pubsub_in_between() -> None:
    """Before it publishes an event, the storage emulator waits for more; the rest of the time comes afterwards."""
    result = measure_latency(3)
    assert result.drops == 3
    assert result.began_to_published_ms.minimum > 0
    assert result.published_to_queued_ms.minimum > 0
    assert result.published_to_captioned_ms.minimum > 0
    assert result.began_to_published_ms.minimum < result.began_to_captioned_ms.minimum
