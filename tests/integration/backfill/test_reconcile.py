"""Reconciliations: each kind of difference, found and repaired; changes meanwhile are no differences."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text

from cli.exit_codes import ExitCode
from db import attempts, claims, object_rows
from dropline.contract import Claim, ObjectVersion, WriteBack, WriteOutcome
from dropline.errors import ForeignBucket
from dropline.storage.listing import Listing
from operations.backfill_request import Source
from operations.comparing import Difference, Finding
from operations.reconcile import Reconciled, Reconciler
from tests.support.bulk import BulkRig
from tests.support.rows import CHILD, caption_object, drop, record, take
from tests.support.shell import run

OURS = {"caption": "a red circle", "caption-prompt": "<CAPTION>", "caption-model": "demo"}


def version_of(bulk: BulkRig, name: str, generation: int = 1) -> ObjectVersion:
    return ObjectVersion(bulk.bucket.name, name, generation)


def caption_and_write(bulk: BulkRig, name: str, metadata: dict[str, str] | None) -> int:
    """An object whose caption was written back, with the metadata as they are now; the row's id."""
    version = version_of(bulk, name, bulk.put(name, metadata=metadata))
    with bulk.database.transaction() as connection:
        row_id = drop(connection, version)
        assert record(connection, take(connection, row_id), write_back=True)
        work = WriteBack(row_id, version, "<CAPTION>", "a red circle", "demo", CHILD)
        assert attempts.finish_write_back(connection, work, WriteOutcome(written=True)).held
    return row_id


def reconcile(
    bulk: BulkRig, rest: str = "", listing: Listing | None = None, **options: Any
) -> tuple[Reconciled, list[tuple[str, str]]]:
    """The counts, and each difference with its object name, sorted. Objects of the test are young."""
    found: list[tuple[str, str]] = []

    def report(finding: Finding, _fixed: bool) -> None:
        found.append((finding.difference.value, finding.version.name))

    used = listing or Listing.connect(bulk.settings)
    reconciler = Reconciler(bulk.settings, bulk.database, used, bulk.messages.append, bulk.wake)
    given: dict[str, Any] = {"young_s": 0, **options}
    counts = reconciler.run(Source.parse(f"{bulk.uri}/{rest}"), on_finding=report, **given)
    return counts, sorted(found)


def make_differences(bulk: BulkRig) -> dict[str, int]:
    """One of each kind, among objects and rows without a difference; row ids by name."""
    ids = {"good.jpg": caption_and_write(bulk, "good.jpg", {**OURS, "owner": "ida"})}
    ids["person.jpg"] = caption_and_write(bulk, "person.jpg", {"caption": "of a person"})
    ids["wrong.jpg"] = caption_and_write(bulk, "wrong.jpg", {**OURS, "caption": "an old one"})
    ids["lost.jpg"] = caption_and_write(bulk, "lost.jpg", None)
    ids["gone.jpg"] = caption_object(bulk.database, version_of(bulk, "gone.jpg"))
    bulk.put("new.jpg")
    bulk.put("notes.txt", kind="text/plain")
    with bulk.database.transaction() as connection:
        # An overwrite whose two events did not arrive: the bucket has a newer generation.
        ids["over.jpg"] = drop(connection, version_of(bulk, "over.jpg"))
        ended = version_of(bulk, "ended.jpg")
        drop(connection, ended)
        object_rows.tombstone(connection, ended)
        drop(connection, ObjectVersion("another-bucket", "good.jpg", 1))
    bulk.put("over.jpg")
    return ids


ALL = [
    ("gone", "gone.jpg"),
    ("gone", "over.jpg"),
    ("metadata", "lost.jpg"),
    ("metadata", "wrong.jpg"),
    ("no_row", "new.jpg"),
    ("no_row", "over.jpg"),
]


def test_each_kind_of_difference_is_found_and_nothing_is_changed(bulk: BulkRig) -> None:
    """A report: the rows are as before, no message is sent."""
    make_differences(bulk)
    before = bulk.rows()
    counts, found = reconcile(bulk)
    assert found == ALL
    assert counts.found == {Difference.GONE: 2, Difference.METADATA: 2, Difference.NO_ROW: 2}
    assert (counts.objects, counts.rows, counts.fixed.total()) == (7, 7, 0)
    assert bulk.rows() == before
    assert bulk.messages == []


def test_differences_are_repaired_once(bulk: BulkRig) -> None:
    """Rows end as by their events; write-backs are due, without the model; a second `--fix` changes nothing."""
    ids = make_differences(bulk)
    counts, found = reconcile(bulk, fix=True)
    assert found == ALL
    assert counts.fixed == counts.found
    assert bulk.wakes == len(bulk.messages) > 0
    rows = {row["id"]: row for row in bulk.rows()}
    assert [rows[ids[name]]["status"] for name in ("gone.jpg", "over.jpg")] == ["deleted", "deleted"]
    new = [row for row in rows.values() if row["status"] == "queued" and row["bucket"] == bulk.bucket.name]
    assert sorted((row["object_name"], row["priority"]) for row in new) == [("new.jpg", 2), ("over.jpg", 2)]
    for _ in range(2):
        again, found = reconcile(bulk, fix=True)
        assert (found, again.fixed.total()) == ([], 0)
    assert {row["id"]: row for row in bulk.rows()} == rows
    with bulk.database.transaction() as connection:
        connection.execute(text("UPDATE captions SET status = 'deleted' WHERE status = 'queued'"))
    works = []
    for _ in range(3):
        with bulk.database.transaction() as connection:
            works.append(claims.claim(connection, 0, 600, CHILD).work)
    due = sorted(work.row_id for work in works if isinstance(work, WriteBack))
    assert due == sorted([ids["lost.jpg"], ids["wrong.jpg"]])
    assert not [work for work in works if isinstance(work, Claim)]


def test_a_prefix_or_a_glob_limits_both_sides(bulk: BulkRig) -> None:
    """Rows and objects of other names are not compared."""
    caption_object(bulk.database, version_of(bulk, "a/1.jpg"))
    caption_object(bulk.database, version_of(bulk, "b/2.jpg"))
    bulk.put("a/3.jpg")
    bulk.put("b/4.jpg")
    assert reconcile(bulk, "a/")[1] == [("gone", "a/1.jpg"), ("no_row", "a/3.jpg")]
    assert reconcile(bulk, "*/[24].jpg")[1] == [("gone", "b/2.jpg"), ("no_row", "b/4.jpg")]


def test_both_sides_are_in_the_order_of_bytes(bulk: BulkRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in pages of two, several of an object across the pages, and names that a language orders otherwise."""
    monkeypatch.setattr("operations.reconcile._PAGE", 2)
    names = ["B.jpg", "a.jpg", "a b.jpg", "a/c.jpg", "Z/1.jpg", "é.jpg", "e.jpg", "_.jpg", "\N{CAT FACE}.jpg", "~"]
    for name in names:
        generation = bulk.put(name)
        with bulk.database.transaction() as connection:
            for number in range(1, 4):
                object_rows.tombstone(connection, version_of(bulk, name, number))
            drop(connection, version_of(bulk, name, generation))
    counts, found = reconcile(bulk)
    assert found == []
    assert (counts.objects, counts.rows) == (len(names), 4 * len(names))


def test_a_young_object_without_a_row_is_left_alone(bulk: BulkRig) -> None:
    """Its event may be on the way, and makes a row of priority 0."""
    bulk.put("a.jpg")
    assert reconcile(bulk, young_s=600, fix=True)[1] == []
    assert bulk.rows() == []


def test_an_object_with_several_tasks_gets_all_its_rows(bulk: BulkRig) -> None:
    """One difference; the first task is written back, and a person's caption answers it."""
    bulk.put("a.jpg", metadata={"caption-task": "<CAPTION>, <OD>", "caption": "my cat"})
    assert reconcile(bulk, fix=True)[1] == [("no_row", "a.jpg")]
    rows = [(row["task"], row["status"], row["write_back"]) for row in bulk.rows()]
    assert sorted(rows) == [("<CAPTION>", "captioned", True), ("<OD>", "queued", False)]
    assert reconcile(bulk, fix=True)[1] == []


def test_captions_of_people_in_the_metadata_are_left_alone(bulk: BulkRig) -> None:
    """Also one that a person has changed in the metadata since; an edit is compared as any caption."""
    bulk.put("a.jpg", metadata={"caption": "my cat"})
    bulk.put("b.jpg")
    bulk.backfiller().run(bulk.request())
    bulk.put("unrelated.txt", kind="text/plain")
    blob = bulk.bucket.blob("a.jpg")
    blob.metadata = {"caption": "my cat Ida"}
    blob.patch()
    with bulk.database.transaction() as connection:
        version = next(row for row in bulk.rows() if row["object_name"] == "b.jpg")
        edit = "SELECT * FROM edit_caption(:bucket, 'b.jpg', 'my dog')"
        connection.execute(text(edit), {"bucket": version["bucket"]})
    assert reconcile(bulk)[1] == []
    with bulk.database.transaction() as connection:
        connection.execute(text("UPDATE captions SET lease_until = NULL, metadata_written_at = now()"))
    assert reconcile(bulk, fix=True)[1] == [("metadata", "b.jpg")]
    assert reconcile(bulk, fix=True)[1] == []


class ChangingListing(Listing):
    """A listing during which objects come, go and are captioned, right after it was read."""

    change: Callable[[], None]

    def pages(self, *arguments: Any) -> Any:
        for page in super().pages(*arguments):
            self.change()
            self.change = lambda: None
            yield page


def test_an_object_that_comes_or_goes_meanwhile_is_no_difference(bulk: BulkRig) -> None:
    """Between the listing and the read of the rows, with its event or before it."""
    before = {name: version_of(bulk, name, bulk.put(name)) for name in ("deleted.jpg", "late.jpg", "dropped.jpg")}
    with bulk.database.transaction() as connection:
        drop(connection, before["deleted.jpg"])
        drop(connection, before["late.jpg"])

    def change() -> None:
        bulk.bucket.blob("deleted.jpg").delete()
        bulk.bucket.blob("dropped.jpg").delete()
        overwritten = version_of(bulk, "late.jpg", bulk.put("late.jpg"))
        fresh = version_of(bulk, "uploaded.jpg", bulk.put("uploaded.jpg"))
        with bulk.database.transaction() as connection:
            object_rows.tombstone(connection, before["deleted.jpg"])
            object_rows.tombstone(connection, before["late.jpg"])
            drop(connection, overwritten)
            drop(connection, fresh)

    listing = ChangingListing.connect(bulk.settings)
    listing.change = change
    counts, found = reconcile(bulk, listing=listing, fix=True)
    assert found == []
    assert (counts.objects, counts.fixed.total()) == (3, 0)
    statuses = {(row["object_name"], row["status"]) for row in bulk.rows()}
    assert statuses == {
        ("deleted.jpg", "deleted"),
        ("late.jpg", "deleted"),
        ("late.jpg", "queued"),
        ("uploaded.jpg", "queued"),
    }


def test_a_noncurrent_version_is_archived_not_deleted(bulk: BulkRig) -> None:
    """In a bucket with versioning the overwritten generation is still there."""
    bulk.bucket.versioning_enabled = True
    bulk.bucket.patch()
    older = version_of(bulk, "a.jpg", bulk.put("a.jpg"))
    row_id = caption_object(bulk.database, older)
    newer = version_of(bulk, "a.jpg", bulk.put("a.jpg"))
    with bulk.database.transaction() as connection:
        drop(connection, newer)
    assert reconcile(bulk, fix=True)[1] == [("noncurrent", "a.jpg")]
    assert {row["id"]: row["status"] for row in bulk.rows()}[row_id] == "superseded"
    assert reconcile(bulk, fix=True)[1] == []


def test_another_bucket_is_refused(bulk: BulkRig) -> None:
    """Its rows would all be gone."""
    reconciler = Reconciler(bulk.settings, bulk.database, Listing.connect(bulk.settings), print, bulk.wake)
    with pytest.raises(ForeignBucket, match="so its objects get no caption"):
        reconciler.run(Source("foreign-bucket"))


def test_the_command_prints_lines_and_counts(
    bulk: BulkRig, monkeypatch: pytest.MonkeyPatch, own_logging: None
) -> None:
    """`--json`: a document per line, the counts as the last."""
    for name, value in bulk.environment().items():
        monkeypatch.setenv(name, value)
    make_differences(bulk)
    shown = run("reconcile", bulk.uri, "--min-age", "0")
    assert shown.exit_code == ExitCode.OK, shown.stderr
    assert "caption 'an old one', not 'a red circle'" in shown.stdout
    assert "7 objects and 7 rows were compared" in shown.stdout
    lines = run("reconcile", bulk.uri, "--min-age", "0", "--fix", "--json").stdout.splitlines()
    *differences, counts = [json.loads(line) for line in lines]
    assert sorted((each["difference"], each["object_name"]) for each in differences) == ALL
    assert all(each["fixed"] for each in differences)
    assert counts["fixed"] == counts["found"] == {"gone": 2, "noncurrent": 0, "no_row": 2, "metadata": 2}
