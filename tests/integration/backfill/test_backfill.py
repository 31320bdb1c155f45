"""Backfills in the test's process: which objects get which rows, resumption, limits, lists of names."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from db import backfills, object_rows
from db.backfills import BackfillRecord
from dropline.contract import ObjectVersion, TaskRequest
from dropline.errors import BackfillTakenOver, ClientError, ForeignBucket, ObjectMissing
from operations.backfill import with_list
from operations.backfill_request import BackfillRequest, Source
from operations.pacing import Pacer
from tests.support.bulk import BulkRig
from tests.support.rows import caption_object, drop
from tests.support.shell import run


class KilledError(Exception):
    """Stands for the end of the process, between two batches."""


def test_objects_get_the_rows_of_their_events(bulk: BulkRig) -> None:
    """Filters, own tasks, refusals, metadata; the objects read are the sum of the counts."""
    bulk.put("a.jpg", size := b"12345")
    bulk.put("b.jpg", kind="application/octet-stream", metadata={"caption-task": "<OD>", "owner": "ida"})
    bulk.put("c.jpg", metadata={"caption": "a person's", "caption-task": "no task"})
    bulk.put("empty.jpg", b"")
    bulk.put("notes.txt", kind="text/plain")
    bulk.put("folder/", b"", kind="application/x-directory")
    with bulk.database.transaction() as connection:
        drop(connection, ObjectVersion(bulk.bucket.name, "z.jpg", bulk.put("z.jpg")))
    record = bulk.backfiller().run(bulk.request())
    rows = {row["object_name"]: row for row in bulk.rows()}
    assert sorted(rows) == ["a.jpg", "b.jpg", "c.jpg", "empty.jpg", "z.jpg"]
    assert (rows["a.jpg"]["status"], rows["a.jpg"]["size_bytes"], rows["a.jpg"]["priority"]) == ("queued", 5, 2)
    assert rows["a.jpg"]["metadata_bytes"] == 0
    assert (rows["b.jpg"]["task"], rows["b.jpg"]["metadata_bytes"]) == ("<OD>", 12 + 4 + 5 + 3)
    assert (rows["c.jpg"]["error_code"], rows["c.jpg"]["metadata_bytes"]) == ("invalid_task", None)
    assert rows["empty.jpg"]["error_code"] == "empty_object"
    assert (record.listed, record.existing, record.queued, record.failed, record.ended) == (7, 1, 2, 2, 0)
    assert record.left_out == {"content_type": 1, "folder_placeholder": 1}
    assert record.queued_bytes == len(size) + 1
    assert record.finished_at is not None
    assert set(bulk.messages) <= {rows["a.jpg"]["id"], rows["b.jpg"]["id"]}
    assert bulk.wakes == len(bulk.messages) > 0


def test_an_object_with_several_tasks_gets_a_row_for_each(bulk: BulkRig) -> None:
    """The first is written back; a wrong entry of the list is a failed row."""
    bulk.put("a.jpg", metadata={"caption-task": "<OD>, <OCR>, <POEM>"})
    record = bulk.backfiller().run(bulk.request())
    assert {(row["task"], row["status"], row["write_back"]) for row in bulk.rows()} == {
        ("<OD>", "queued", True),
        ("<OCR>", "queued", False),
        ("<CAPTION>", "failed", False),
    }
    assert (record.queued, record.failed) == (2, 1)
    assert bulk.backfiller().run(bulk.request()).queued == 0


def test_a_second_run_changes_nothing(bulk: BulkRig) -> None:
    """It lists again, and wakes the workers for rows that are due; a new object is found."""
    bulk.put_all(f"{number}.jpg" for number in range(30))
    bulk.backfiller().run(bulk.request())
    before = bulk.rows()
    again = bulk.backfiller().run(bulk.request())
    assert bulk.rows() == before
    assert (again.listed, again.existing, again.queued, again.failed, again.left_out) == (30, 30, 0, 0, {})
    bulk.put("new.jpg")
    assert bulk.backfiller().run(bulk.request()).queued == 1


def test_a_prefix_and_a_glob_choose_objects_by_name(bulk: BulkRig) -> None:
    """The emulator has no globs, and sends other names too."""
    bulk.put_all(["a/1.jpg", "a/b/2.jpg", "a/3.png", "ab.jpg", "c/4.jpg", "é/\N{CAT FACE}.jpg"])
    assert bulk.backfiller().plan(bulk.request("a/")).queued == 3
    plan = bulk.backfiller().plan(bulk.request("a/*.jpg"))
    assert (plan.queued, plan.left_out) == (1, {"other_name": 2})
    assert bulk.backfiller().plan(bulk.request("**/?.jpg")).queued == 4
    assert bulk.names() == []


def test_old_objects_are_left_out(bulk: BulkRig) -> None:
    """The time of --since is that of the first run."""
    bulk.put("a.jpg")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    plan = bulk.backfiller().plan(bulk.request(since_text="1d", since=tomorrow))
    assert (plan.queued, plan.left_out) == (0, {"old": 1})
    with bulk.database.transaction() as connection:
        request = bulk.request(since_text="1d", since=tomorrow)
        backfills.start(connection, request.source.uri, request.options, tomorrow, "killed")
    record = bulk.backfiller().run(bulk.request(since_text="1d", since=datetime(2020, 1, 1, tzinfo=UTC)))
    assert (record.queued, record.since) == (0, tomorrow)


def test_another_task_is_asked_beside_the_own_one(bulk: BulkRig) -> None:
    """The answer to a further task is in Postgres alone; an invalid own task is no obstacle."""
    bulk.put("a.jpg")
    bulk.put("b.jpg", metadata={"caption-task": "no task"})
    bulk.backfiller().run(bulk.request())
    bulk.backfiller().run(bulk.request(task=TaskRequest.parse("od")))
    rows = [(row["object_name"], row["task"], row["write_back"], row["status"]) for row in bulk.rows()]
    assert sorted(rows) == [
        ("a.jpg", "<CAPTION>", True, "queued"),
        ("a.jpg", "<OD>", False, "queued"),
        ("b.jpg", "<CAPTION>", True, "failed"),
        ("b.jpg", "<OD>", False, "queued"),
    ]


def test_an_object_with_several_tasks_has_a_row_for_each(bulk: BulkRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one is written back; objects are counted once; a batch has no part of an object."""
    monkeypatch.setattr("operations.backfill.BATCH", 4)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        bulk.put(name, metadata={"caption-task": "<OD>, <CAPTION>, <OCR>"})
    assert bulk.backfiller().plan(bulk.request()).queued == 9
    record = bulk.backfiller().run(bulk.request())
    assert (record.listed, record.queued) == (3, 9)
    rows = sorted((row["object_name"], row["task"]) for row in bulk.rows() if row["write_back"])
    assert rows == [("a.jpg", "<OD>"), ("b.jpg", "<OD>"), ("c.jpg", "<OD>")]
    again = bulk.backfiller().run(bulk.request())
    assert (again.listed, again.existing, again.queued) == (3, 9, 0)


@pytest.mark.parametrize("rate", [1, 2])
def test_a_low_rate_cuts_no_object(bulk: BulkRig, rate: float) -> None:
    """An object with three tasks has its three rows, and the next batch waits for all of them; `--max` cuts."""
    for name in ("a.jpg", "b.jpg"):
        bulk.put(name, metadata={"caption-task": "<OD>, <CAPTION>, <OCR>"})
    waits: list[float] = []
    pacer = Pacer(rate, lambda: sum(waits), waits.append)
    record = bulk.backfiller().run(bulk.request(rate=rate, most=5), pacer=pacer)
    assert (record.listed, record.queued) == (2, 5)
    assert waits == [pytest.approx(3 / rate)]
    assert bulk.backfiller().run(bulk.request(rate=rate), pacer=pacer).queued == 1
    assert len(bulk.rows()) == 6


def test_the_caption_of_a_person_in_the_metadata_is_that_of_the_row(bulk: BulkRig) -> None:
    """As at its event: the model does not run for it, and the other rows of the batch are queued."""
    bulk.put("a.jpg", metadata={"caption": "my cat"})
    bulk.put("b.jpg", metadata={"caption": "my dog", "caption-task": "<OD>"})
    bulk.put("c.jpg", metadata={"caption": "of a model", "caption-model": "demo", "caption-prompt": "<CAPTION>"})
    bulk.put("d.jpg", b"12345")
    plan = bulk.backfiller().plan(bulk.request())
    record = bulk.backfiller().run(bulk.request())
    counts = (record.queued, record.adopted, record.existing, record.queued_bytes)
    assert counts == (plan.queued, plan.adopted, plan.existing, plan.queued_bytes) == (3, 1, 0, 7)
    rows = {row["object_name"]: row for row in bulk.rows()}
    adopted = rows["a.jpg"]
    assert [adopted[key] for key in ("status", "caption", "edited_by")] == [
        "captioned",
        "my cat",
        "object metadata",
    ]
    assert {rows[name]["status"] for name in ("b.jpg", "c.jpg", "d.jpg")} == {"queued"}


def test_a_backfill_continues_behind_its_last_batch(bulk: BulkRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after batches of ten, anywhere in the ranges; objects come meanwhile: each is there once."""
    monkeypatch.setattr("operations.backfill.BATCH", 10)
    names = [f"{folder}/{number}.jpg" for folder in "abc" for number in range(25)]
    bulk.put_all(names)

    def kill(_record: BackfillRecord, _part: float) -> None:
        raise KilledError

    for number in range(6):
        with pytest.raises(KilledError):
            bulk.backfiller().run(bulk.request(), on_progress=kill)
        bulk.put(f"a/new-{number}.jpg")
    record = bulk.backfiller().run(bulk.request())
    assert record.id == 1
    assert record.listed == record.queued == len(bulk.names())
    assert set(names) <= set(bulk.names())
    assert len(bulk.names()) == len(set(bulk.names()))


def test_a_later_process_takes_over(bulk: BulkRig) -> None:
    """The earlier one ends at its next batch, and writes nothing any more."""
    bulk.put_all(["a/1.jpg", "b/1.jpg"])

    def start_another(record: BackfillRecord, _part: float) -> None:
        with bulk.database.transaction() as connection:
            backfills.start(connection, record.source, record.options, None, "another")

    with pytest.raises(BackfillTakenOver, match="another process"):
        bulk.backfiller().run(bulk.request(), on_progress=start_another)
    assert len(bulk.names()) == 1


def test_the_number_of_rows_is_limited_over_kills(bulk: BulkRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--max` counts the rows of the whole backfill; the same command after its end takes the next ones."""
    monkeypatch.setattr("operations.backfill.BATCH", 4)
    bulk.put_all(f"{number:02}.jpg" for number in range(20))

    def kill(_record: BackfillRecord, _part: float) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        bulk.backfiller().run(bulk.request(most=10), on_progress=kill)
    assert len(bulk.names()) in (1, 2, 3, 4)
    assert bulk.backfiller().run(bulk.request(most=10)).queued == len(bulk.names()) == 10
    assert bulk.backfiller().plan(bulk.request(most=7)).queued == 7
    assert bulk.backfiller().run(bulk.request(most=10)).queued == 10
    assert len(bulk.names()) == 20


def test_a_list_names_objects_by_name_or_uri(bulk: BulkRig, tmp_path: Path) -> None:
    """With a generation, the object must be in the bucket, or have a row."""
    bulk.put_all(["a.jpg", "b, c.jpg", "other.jpg"])
    generation = bulk.put("d.jpg")
    path = tmp_path / "names.csv"
    path.write_text(
        f'name,size\na.jpg,1\n"b, c.jpg"\n\n{bulk.uri}/d.jpg#{generation}\nmissing.jpg\nnot/here.png\n'
    )
    request = with_list(bulk.request(), path)
    assert bulk.backfiller().plan(request, path).queued == 3
    record = bulk.backfiller().run(request, path)
    assert (record.listed, record.queued, record.left_out) == (5, 3, {"missing": 2})
    rows = {row["object_name"]: row for row in bulk.rows()}
    assert set(rows) == {"a.jpg", "b, c.jpg", "d.jpg"}
    assert (rows["d.jpg"]["generation"], rows["d.jpg"]["metageneration"]) == (generation, None)
    bulk.bucket.blob("d.jpg").delete()
    again = bulk.backfiller().run(request, path)
    assert (again.queued, again.existing, again.left_out) == (0, 3, {"missing": 2})
    path.write_text("gs://another/a.jpg\n")
    with pytest.raises(ClientError, match="line 1"):
        bulk.backfiller().run(with_list(bulk.request(), path), path)
    with pytest.raises(ClientError, match="cannot be read"):
        with_list(bulk.request(), tmp_path / "none")


def test_a_list_of_a_spreadsheet(bulk: BulkRig, tmp_path: Path) -> None:
    """A byte order mark is no part of a name; another encoding is an error with the file's name."""
    bulk.put_all(["a.jpg"])
    path = tmp_path / "names.csv"
    path.write_text("name\na.jpg\n", encoding="utf-8-sig")
    record = bulk.backfiller().run(with_list(bulk.request(), path), path)
    assert (record.listed, record.queued, record.left_out) == (1, 1, {})
    path.write_text("ä.jpg\n", encoding="utf-16")
    with pytest.raises(ClientError, match="is no CSV file in UTF-8"):
        bulk.backfiller().run(with_list(bulk.request(), path), path)


def test_a_list_with_wrong_generations_ends_no_row(bulk: BulkRig, tmp_path: Path) -> None:
    """A generation that the bucket does not have gets no row, which would supersede that of the real one."""
    real = bulk.put("a.jpg")
    bulk.backfiller().run(bulk.request())
    path = tmp_path / "names.csv"
    path.write_text("".join(f"{bulk.uri}/a.jpg#{wrong}\n" for wrong in (real + 1, real - 1, 0, 10**30)))
    request = with_list(bulk.request(), path)
    assert bulk.backfiller().plan(request, path).queued == 0
    record = bulk.backfiller().run(request, path)
    assert (record.queued, record.left_out) == (0, {"missing": 4})
    assert [(row["generation"], row["status"]) for row in bulk.rows()] == [(real, "queued")]


def test_a_list_continues_behind_its_last_batch(
    bulk: BulkRig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor is the line; an unchanged file is known by its digest."""
    monkeypatch.setattr("operations.backfill.BATCH", 3)
    path = tmp_path / "names.csv"
    names = [f"{number}.jpg" for number in range(10)]
    path.write_text("".join(f"{bulk.uri}/{name}#{bulk.put(name)}\n" for name in names))
    request = with_list(bulk.request(), path)

    def kill(_record: BackfillRecord, _part: float) -> None:
        raise KilledError

    for _ in range(2):
        with pytest.raises(KilledError):
            bulk.backfiller().run(request, path, on_progress=kill)
    record = bulk.backfiller().run(request, path)
    assert (record.id, record.listed, record.queued, len(bulk.names())) == (1, 10, 10, 10)


def test_a_bucket_that_is_not_ours_or_not_there_is_refused(bulk: BulkRig) -> None:
    """Before any row of `backfills`, and without rows."""
    with pytest.raises(ForeignBucket, match="DROPLINE_EVENTS__BUCKETS"):
        bulk.backfiller().run(BackfillRequest(Source("foreign-bucket")))
    bulk.bucket.delete()
    with pytest.raises(ObjectMissing, match=bulk.bucket.name):
        bulk.backfiller().run(bulk.request())


def interrupt(*_: object, **__: object) -> None:
    """Ctrl-C."""
    raise KeyboardInterrupt


def test_the_command_prints_its_plan_and_its_counts(
    bulk: BulkRig, monkeypatch: pytest.MonkeyPatch, own_logging: None
) -> None:
    """`--dry-run` changes nothing, and estimates time and price; `--json` is for programs."""
    for name, value in bulk.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("DROPLINE_WORKER__HOURLY_PRICE", "0.5")
    bulk.put("a.jpg", b"x" * 100)
    for number in range(12):
        caption_object(bulk.database, ObjectVersion("others", f"{number}.jpg", 1))
    plan = json.loads(run("backfill", bulk.uri, "--dry-run", "--json").stdout)
    assert (plan["queued"], plan["queued_bytes"], plan["dry_run"]) == (1, 100, True)
    assert plan["price"] == pytest.approx(plan["seconds"] / 3600 * 0.5)
    shown = run("backfill", bulk.uri, "--dry-run")
    assert "rows would be queued" in shown.stdout
    assert "price" in shown.stdout
    assert len(bulk.names()) == 12
    record = json.loads(run("backfill", bulk.uri, "--json").stdout)
    assert (record["queued"], record["source"]) == (1, f"{bulk.uri}/")
    nothing_left = run("backfill", bulk.uri, "--dry-run")
    assert "price" not in nothing_left.stdout + nothing_left.stderr
    assert "rows are there already" in run("backfill", bulk.uri).stdout
    monkeypatch.setattr("operations.backfill.Backfiller.run", interrupt)
    stopped = run("backfill", bulk.uri)
    assert (stopped.exit_code, "the same command again" in stopped.stderr) == (ExitCode.INTERRUPTED, True)
    refused = run("backfill", "photos/")
    assert refused.exit_code == ExitCode.USAGE
    assert "gs://BUCKET" in refused.stderr


def test_an_archived_generation_is_no_work(bulk: BulkRig) -> None:
    """The ARCHIVE event of the listed generation has arrived before its batch."""
    version = ObjectVersion(bulk.bucket.name, "a.jpg", bulk.put("a.jpg"))
    with bulk.database.transaction() as connection:
        object_rows.archive(connection, version)
    record = bulk.backfiller().run(bulk.request())
    assert (record.queued, record.ended) == (0, 1)
