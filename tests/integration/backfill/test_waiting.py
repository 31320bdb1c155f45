"""The wait for the rows of a backfill, by notifications."""

import threading

import pytest

from db import attempts, claims
from dropline.contract import Claim, ObjectVersion, Status
from operations.waiting import wait_for_rows
from tests.support.bulk import BulkRig
from tests.support.rows import CHILD, drop, record


def caption_next(bulk: BulkRig, *, fails: bool = False) -> None:
    """Claim the most urgent row, and end it."""
    with bulk.database.transaction() as connection:
        work = claims.claim(connection, 0, 600, CHILD).work
        assert isinstance(work, Claim)
    with bulk.database.transaction() as connection:
        if fails:
            assert attempts.fail(connection, work, "corrupt_image", "damaged").held
        else:
            assert record(connection, work)


@pytest.mark.parametrize("counted", [2, 1000])
def test_the_wait_ends_with_the_last_row(bulk: BulkRig, monkeypatch: pytest.MonkeyPatch, counted: int) -> None:
    """Fresh rows end among those of the backfill; more rows than are counted at once are counted again."""
    monkeypatch.setattr("operations.waiting._MOST_COUNTED", counted)
    bulk.put_all(f"{number}.jpg" for number in range(6))
    found = bulk.backfiller().run(bulk.request())
    with bulk.database.transaction() as connection:
        drop(connection, ObjectVersion(bulk.bucket.name, "fresh.jpg", 1))
    caption_next(bulk)
    ended: list[int] = []

    def work() -> None:
        for number in range(6):
            caption_next(bulk, fails=number == 2)

    worker = threading.Thread(target=work)

    def on_progress(number: int) -> None:
        if not ended:
            worker.start()
        ended.append(number)

    statuses = wait_for_rows(bulk.settings, found, bulk.bucket.name, 300, on_progress)
    worker.join()
    assert statuses == {Status.CAPTIONED: 5, Status.FAILED: 1}
    assert ended[0] == 0


def test_the_wait_ends_in_time(bulk: BulkRig) -> None:
    """With the rows that have not ended; a backfill without rows ends at once."""
    bulk.put("a.jpg")
    found = bulk.backfiller().run(bulk.request())
    assert wait_for_rows(bulk.settings, found, bulk.bucket.name, 0, print) == {Status.QUEUED: 1}
    nothing = bulk.backfiller().run(bulk.request())
    assert wait_for_rows(bulk.settings, nothing, bulk.bucket.name, None, print) == {}
