"""The benchmarks that measure sizes and counts, on a few rows, messages and images."""

import pytest

from benchmarks.counts import measure_counts
from benchmarks.row_size import measure_row_size
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


@linux_only
@pytest.mark.timeout(300)
def test_counts_are_those_of_every_image() -> None:
    """Each image has one message, at least three transactions, and lines in both logs."""
    result = measure_counts(20)
    assert result.commands["lpush"] >= 1
    assert result.transactions >= 3
    assert result.wal_bytes > 0
    assert set(result.log_bytes) == {"function", "worker"}
