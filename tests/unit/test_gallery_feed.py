"""Changes on their way to streams: each once, whatever the order of reads and notifications. No Postgres."""

import asyncio
import json
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from anyio import CapacityLimiter

from db.changes import Changes
from db.reads import CaptionRecord
from db.session import Database
from db.snapshot import Snapshot
from dropline.contract import ChangeNotice, Status
from dropline.settings import DatabaseSettings
from gallery import feed as feeds
from gallery.feed import Event, Feed, Stream, state_blocks
from gallery.hub import ChangeHub


def row(number: int, changed_in: int) -> CaptionRecord:
    """A row whose last change was made by a transaction."""
    known: dict[str, Any] = {
        "id": number,
        "bucket": "drops",
        "object_name": f"{number}.png",
        "generation": 1,
        "task": "<CAPTION>",
        "status": Status.QUEUED,
        "queued_at": datetime(2026, 11, 26, tzinfo=UTC),
        "updated_at": datetime(2026, 11, 26, tzinfo=UTC),
        "attempts": 0,
        "changed_in": changed_in,
    }
    return CaptionRecord.from_columns({field.name: known.get(field.name) for field in fields(CaptionRecord)})


def changes(snapshot: int, *rows: CaptionRecord) -> Changes:
    """Rows, as a snapshot sees them that sees all transactions below a number."""
    return Changes(Snapshot(snapshot, snapshot), list(rows))


def publish(feed: Feed, snapshot: int, *rows: CaptionRecord) -> None:
    """Publish a notification of each row."""
    notices = [
        ChangeNotice(
            each.id, each.bucket, each.object_name, 1, each.task, each.status, False, each.changed_in or 0
        )
        for each in rows
    ]
    feed.publish(notices, changes(snapshot, *rows))


def taken(stream: Stream) -> list[str]:
    """The waiting blocks: the names of their rows, `reset`, or the id of a block without data."""
    return [_short(block) for block in asyncio.run(stream.take(0.01, 10**9))]


def _short(block: bytes) -> str:
    lines = dict(line.split(": ", 1) for line in block.decode().strip().split("\n"))
    if lines.get("event") == "caption":
        return str(json.loads(lines["data"])["object_name"])
    return lines.get("event", lines.get("id", ""))


def test_a_change_in_the_present_state_is_not_sent_again() -> None:
    """The state was read after the stream began: changes that wait, and notifications on their way, are in it."""
    feed = Feed()
    with feed.stream() as stream:
        publish(feed, 12, row(1, 10), row(2, 11))
        stream.begin_with(Snapshot(11, 11))
        publish(feed, 13, row(3, 10), row(4, 12))
        assert taken(stream) == ["2.png", "4.png"]


def test_a_transaction_that_the_state_does_not_see_is_sent() -> None:
    """It began before the read and is committed after it."""
    feed = Feed()
    with feed.stream() as stream:
        stream.begin_with(Snapshot(9, 12, frozenset({9})))
        publish(feed, 12, row(1, 9), row(2, 10))
        assert taken(stream) == ["1.png"]


def test_an_older_state_takes_nothing_back() -> None:
    """Two reads may end in the other order."""
    feed = Feed()
    with feed.stream() as stream:
        stream.begin_with(Snapshot(13, 13))
        stream.put_state([], Snapshot(11, 11))
        publish(feed, 14, row(1, 12), row(2, 13))
        assert taken(stream) == ["11:11:", "2.png"]


def test_after_a_loss_only_unsent_changes_are_sent() -> None:
    """Then an id; a notification that arrives late is left out."""
    feed = Feed()
    feed.offer(Snapshot(10, 10))
    with feed.stream() as stream:
        publish(feed, 11, row(1, 10))
        feed.catch_up(changes(13, row(1, 10), row(2, 12)))
        publish(feed, 14, row(2, 12), row(3, 13))
        assert taken(stream) == ["1.png", "2.png", "13:13:", "3.png"]


def test_a_row_that_changed_again_during_the_loss_is_sent_again() -> None:
    """The same row, and another transaction."""
    feed = Feed()
    feed.offer(Snapshot(10, 10))
    with feed.stream() as stream:
        publish(feed, 11, row(1, 10))
        feed.catch_up(changes(13, row(1, 12)))
        assert taken(stream) == ["1.png", "1.png", "13:13:"]


def test_the_id_is_a_snapshot_whose_changes_have_all_arrived() -> None:
    """A snapshot may see a change whose notification is on its way: it waits for one that it does not see."""
    feed = Feed()
    feed.offer(Snapshot(10, 10))
    with feed.stream():
        publish(feed, 13, row(1, 10))
        publish(feed, 14, row(2, 12))
        assert feed.confirmed == Snapshot(10, 10)
        publish(feed, 15, row(3, 13))
        assert feed.confirmed == Snapshot(13, 13)
        # Only changes since the id are remembered: the memory of a long run is bounded.
        assert feed._sent == {(3, 13)}


def test_a_snapshot_of_one_stream_is_no_id_of_the_others() -> None:
    """Another stream may have begun with an older state, and waits for its notifications."""
    feed = Feed()
    feed.offer(Snapshot(10, 10))
    with feed.stream():
        feed.offer(Snapshot(11, 11))
        assert feed.confirmed == Snapshot(11, 11)
        with feed.stream():
            feed.offer(Snapshot(12, 12))
            assert feed.confirmed == Snapshot(11, 11)


def test_a_reset_stands_for_all_changes_before() -> None:
    """A late notification is left out."""
    feed = Feed()
    feed.offer(Snapshot(10, 10))
    with feed.stream() as stream:
        feed.reset(Snapshot(13, 13))
        publish(feed, 14, row(1, 12), row(2, 13))
        assert taken(stream) == ["reset", "13:13:", "2.png"]


def test_the_state_ends_with_its_id() -> None:
    """A client that loses the connection in between comes back with its old id, and misses no row."""
    blocks = state_blocks([row(1, 10), row(2, 11)], Snapshot(12, 12))
    assert [_short(block) for block in blocks] == ["1.png", "2.png", "12:12:"]
    assert all(b"id:" not in block for block in blocks[:-1])


def test_a_client_with_too_many_waiting_events_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back with its last id; the waiting events cost no memory any more."""
    monkeypatch.setattr(feeds, "MOST_WAITING", 2)
    stream = Stream()
    for number in range(3):
        assert stream.is_open
        stream.put(Event(number, b"id: 1\n\n"))
    assert not stream.is_open
    assert taken(stream) == []


@pytest.mark.parametrize(("most", "expected"), [(2, ["1.png", "2.png", "13:13:"]), (1, ["reset", "13:13:"])])
def test_more_missed_changes_than_are_sent_are_a_reset(
    monkeypatch: pytest.MonkeyPatch, most: int, expected: list[str]
) -> None:
    """After a loss of the listening connection."""
    monkeypatch.setattr("gallery.hub.MOST_MISSED", most)
    hub = ChangeHub(DatabaseSettings(), "test", cast("Database", None))
    monkeypatch.setattr(hub, "_read_changed", lambda _since: changes(13, row(1, 11), row(2, 12)))
    hub.feed.offer(Snapshot(10, 10))

    async def catch_up() -> None:
        await hub._catch_up(CapacityLimiter(1))

    with hub.feed.stream() as stream:
        asyncio.run(catch_up())
        assert taken(stream) == expected
