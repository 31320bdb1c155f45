"""The merge of a listing with rows, and the differences of one name."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.reconciliation import ComparedRow
from dropline.contract import ObjectFacts, ObjectVersion, Status
from dropline.selection import Selection
from dropline.settings import EventSettings, MetadataSettings
from dropline.storage.listing import ListedObject
from dropline.storage.metadata import shorten
from operations.backfill_request import BackfillRequest, Chooser, Source
from operations.comparing import Comparison, Difference, merge

NOW = datetime(2026, 11, 27, tzinfo=UTC)
OURS = {"caption": "a cat", "caption-prompt": "<CAPTION>", "caption-model": "demo"}


def listed(name: str, generation: int = 2, metadata: dict[str, str] | None = None, **values: Any) -> ListedObject:
    facts = ObjectFacts("image/jpeg", 10)
    version = ObjectVersion("drops", name, generation)
    return ListedObject(version, facts, None, metadata, created_at=NOW, **values)


def row(name: str, generation: int = 2, status: Status = Status.CAPTIONED, **values: Any) -> ComparedRow:
    given: dict[str, Any] = {
        "caption": "a cat",
        "model": "demo",
        "write_back": True,
        "metadata_written_at": NOW,
        "lease_until": None,
        "redo": False,
        "edited_by": None,
        "reverted_at": None,
        **values,
    }
    return ComparedRow(1, name, generation, "<CAPTION>", status, **given)


def differences(
    found: ListedObject | None, *rows: ComparedRow, younger_than: datetime | None = None
) -> list[tuple[Difference, int]]:
    chooser = Chooser(Selection(EventSettings(buckets=("drops",))), BackfillRequest(Source("drops")), None)
    comparison = Comparison("drops", chooser, MetadataSettings(), younger_than)
    return [(each.difference, each.version.generation) for each in comparison.differences(found, list(rows))]


_NAMES = st.sets(st.text("ab/é", min_size=1, max_size=3), max_size=12)


@given(objects=_NAMES, rows=st.lists(st.sampled_from(["a", "b", "ab", "é", "a/", "/"]), max_size=12))
def test_each_name_comes_once_with_its_object_and_all_its_rows(objects: set[str], rows: list[str]) -> None:
    """In order, whichever stream has it."""
    pairs = list(merge(map(listed, sorted(objects)), map(row, sorted(rows))))
    names = [found.version.name if found else group[0].object_name for found, group in pairs]
    assert names == sorted(objects | set(rows))
    for name, (found, group) in zip(names, pairs, strict=True):
        assert (found is not None) == (name in objects)
        assert [each.object_name for each in group] == [name] * rows.count(name)


@pytest.mark.parametrize("status", [Status.QUEUED, Status.RUNNING, Status.CAPTIONED, Status.FAILED])
def test_an_unended_row_of_a_missing_version_is_gone(status: Status) -> None:
    """Without an object, and beside another live generation, a newer one too."""
    assert differences(None, row("a", status=status)) == [(Difference.GONE, 2)]
    assert (Difference.GONE, 3) in differences(listed("a"), row("a", 3, status))
    assert differences(None, row("a", 1, status), row("a", 1, status)) == [(Difference.GONE, 1)]


@pytest.mark.parametrize("status", [Status.SUPERSEDED, Status.DELETED])
def test_an_ended_row_is_no_difference(status: Status) -> None:
    """A tombstone keeps the live generation from getting a row, too."""
    assert differences(None, row("a", status=status)) == []
    assert differences(listed("a"), row("a", status=status)) == []


def test_an_object_without_any_row_is_a_difference_if_the_rules_admit_it() -> None:
    """Not one that a rule filters, that is archived, or whose event may be on the way."""
    assert differences(listed("a")) == [(Difference.NO_ROW, 2)]
    assert differences(listed("a"), row("a", 1, Status.DELETED)) == [(Difference.NO_ROW, 2)]
    assert differences(listed("a", storage_class="COLDLINE")) == []
    assert differences(listed("x/gsutil/tmp/parallel_composite_uploads/a")) == []
    assert differences(listed("a"), younger_than=datetime(2026, 11, 26, tzinfo=UTC)) == []
    assert differences(listed("a"), younger_than=NOW) == [(Difference.NO_ROW, 2)]


def test_metadata_are_compared_with_the_row_that_was_written() -> None:
    """Each key counts; other keys, captions of people and pending write-backs do not."""
    assert differences(listed("a", metadata={**OURS, "owner": "ida"}), row("a")) == []
    for key in OURS:
        changed = [(Difference.METADATA, 2)]
        assert differences(listed("a", metadata={**OURS, key: "other"}), row("a")) == changed
    assert differences(listed("a"), row("a")) == [(Difference.METADATA, 2)]
    assert differences(listed("a", metadata={"caption": "a person's"}), row("a")) == []
    pending: list[dict[str, Any]] = [
        {"metadata_written_at": None},
        {"lease_until": NOW},
        {"redo": True},
        {"write_back": False},
        {"edited_by": "object metadata"},
    ]
    for values in pending:
        assert differences(listed("a"), row("a", **values)) == []


def test_a_caption_that_was_shortened_is_no_difference() -> None:
    """What does not fit is compared as it was written."""
    words = "a cat " * 1000
    fitted = shorten(words, 4096)
    assert fitted is not None
    assert differences(listed("a", metadata={**OURS, "caption": fitted}), row("a", caption=words)) == []
    assert differences(listed("a", metadata={**OURS, "caption": words[:100]}), row("a", caption=words)) != []
