"""`dropline export` with a real Postgres and Cloud Storage."""

import csv
import errno
import io
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.cloud.storage import Client
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db import attempts, exports
from db.caption_filter import CaptionFilter
from db.session import Database
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest
from dropline.selection import Filtered, Selection
from dropline.settings import EventSettings
from dropline.storage.bucket import Storage
from dropline.storage.exports import ExportStorage
from local_emulators.gcs import GcsServer
from operations.export import run as running
from tests.support.rows import IMAGE, a_caption, caption_object, drop, fail_object, take
from tests.support.shell import BUCKET, Finished, run

FORMATS = ("jsonl", "csv", "parquet", "coco")
BOXES = {"bboxes": [[10, 20, 30, 60], [0, 0, 5.5, 5]], "labels": ["cat", "dog"]}
OUTLINE = {"polygons": [[[0, 0, 10, 0, 10, 10, 0, 10]]], "labels": ["cat"]}


def version(name: str, generation: int = 1, bucket: str = BUCKET) -> ObjectVersion:
    return ObjectVersion(bucket, name, generation)


def answer(connection: Connection, name: str, task: str, words: str, result: dict[str, Any]) -> None:
    """A row with regions."""
    claim = take(connection, drop(connection, version(name), TaskRequest.parse(task)))
    caption = a_caption(words, result)
    assert attempts.record_caption(connection, claim, caption, IMAGE, size_bytes=9, write_back_lease_s=None).held


@pytest.fixture
def rows(database: Database, connection: Connection) -> Database:
    """Captions, an overwritten one, a failed row, and answers with boxes."""
    for name in ("cats/1.jpg", "cats/2.jpg", "dogs/1.jpg"):
        caption_object(database, version(name), f"a picture of {name}")
    caption_object(database, version("dogs/2.jpg"), "overwritten")
    caption_object(database, version("dogs/2.jpg", 2), "=SUM(1)")
    fail_object(database, version("dogs/3.jpg"), "not_an_image", "no image")
    answer(connection, "cats/1.jpg", "<OD>", "cat, dog", BOXES)
    answer(connection, "cats/2.jpg", "<REGION_TO_SEGMENTATION><loc_1><loc_2><loc_3><loc_4>", "cat", OUTLINE)
    return database


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of two rows, statements that read three ids, and a mark after each part."""
    monkeypatch.setattr(exports, "PART", 2)
    monkeypatch.setattr(exports, "SPAN", 3)
    monkeypatch.setattr(running, "_PARTS_OF_A_MARK", 2)


def exported(*arguments: str) -> list[dict[str, Any]]:
    """The lines of JSON."""
    result = run("export", *arguments)
    assert result.exit_code == ExitCode.OK, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def names(*arguments: str) -> list[str]:
    """The object names of an export, in its order."""
    return [row["object_name"] for row in exported(*arguments)]


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["cats/1.jpg", "cats/2.jpg", "dogs/1.jpg", "dogs/2.jpg", "cats/1.jpg", "cats/2.jpg"]),
        (("--prefix", "dogs/"), ["dogs/1.jpg", "dogs/2.jpg"]),
        (("--prefix", "dogs/", "--every-generation"), ["dogs/1.jpg", "dogs/2.jpg", "dogs/2.jpg"]),
        (("--task", "od"), ["cats/1.jpg"]),
        (("--status", "failed"), ["dogs/3.jpg"]),
        (
            ("--status", "failed", "--status", "captioned", "--prefix", "dogs/"),
            ["dogs/1.jpg", "dogs/2.jpg", "dogs/3.jpg"],
        ),
        (("--model", "another"), []),
        (("--model", "demo", "--revision", "r1", "--task", "<OD>"), ["cats/1.jpg"]),
        (("--bucket", "another"), []),
        (("--older-than", "1h"), []),
    ],
)
@pytest.mark.parametrize("few", [10_000, 0])
def test_filters(
    monkeypatch: pytest.MonkeyPatch, small_parts: None, arguments: tuple[str, ...], expected: list[str], few: int
) -> None:
    """The newest captions without options; each row once, in the order of the ids, by an index or without one."""
    monkeypatch.setattr(exports, "_FEW", few)
    assert names(*arguments) == expected


@pytest.mark.parametrize("prefix", ["", "dogs/"])
def test_no_transaction_waits_for_a_slow_reader(rows: Database, small_parts: None, prefix: str) -> None:
    """By an index or without one: Postgres ends transactions that are idle."""
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in tr%'"
    )
    chosen = exports.Chosen(CaptionFilter(prefix=prefix), every_generation=True)
    for part in exports.parts(rows, chosen, 0, exports.last_id(rows)):
        assert part.rows
        with rows.transaction() as connection:
            assert connection.execute(waiting).scalar_one() == 0


@pytest.mark.parametrize(("most", "expected"), [(4, 4), (3, None)])
@pytest.mark.parametrize(
    "conditions", [{"model": "another"}, {"bucket": "another"}, {"statuses": (Status.FAILED,)}]
)
def test_a_broad_prefix_is_no_way_to_a_few_rows(
    rows: Database, monkeypatch: pytest.MonkeyPatch, most: int, expected: int | None, conditions: dict[str, Any]
) -> None:
    """The rows of the prefix are counted, not those that pass: else one statement reads all of them."""
    monkeypatch.setattr(exports, "_FEW", most)
    chosen = exports.Chosen(CaptionFilter(prefix="dogs/", **conditions))
    with rows.transaction() as connection:
        found = exports.few_ids(connection, chosen, 0, 10**9)
    assert (None if found is None else len(found)) == expected


@pytest.mark.usefixtures("rows")
def test_formats_have_the_same_rows(tmp_path: Path) -> None:
    """Lines, CSV and Parquet, on standard output and in a file."""
    pq = pytest.importorskip("pyarrow.parquet")
    lines = exported()
    read = csv.DictReader(io.StringIO(run("export", "--format", "csv").stdout, newline=""))
    assert [row["uri"] for row in read] == [row["uri"] for row in lines]
    assert "'=SUM(1)" in run("export", "--format", "csv", "--prefix", "dogs/2").stdout
    file = tmp_path / "a.parquet"
    assert run("export", "--format", "parquet", "--to", file).exit_code == ExitCode.OK
    table = pq.read_table(file).to_pylist()
    assert [row["caption"] for row in table] == [row["caption"] for row in lines]
    assert json.loads(table[4]["result"]) == BOXES
    assert table[0]["captioned_at"].isoformat() == lines[0]["captioned_at"]


@pytest.mark.usefixtures("rows", "small_parts")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("parts", [1, 2])
def test_an_export_that_was_cut_short_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, parts: int
) -> None:
    """After each part: no row is lost or doubled, and the file appears when it is whole."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    whole, file = tmp_path / "whole", tmp_path / "file"
    assert run("export", "--format", name, "--to", whole).exit_code == ExitCode.OK
    assert cut_short(monkeypatch, parts, "export", "--format", name, "--to", file).exit_code != ExitCode.OK
    assert not file.exists()
    result = run("export", "--format", name, "--to", file)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert content(file, name) == content(whole, name)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["file", "whole"]
    if parts > 1:
        assert "cut short" in result.stderr


def cut_short(monkeypatch: pytest.MonkeyPatch, parts: int, *arguments: object) -> Finished:
    """Run a command that is killed after some parts are written, before the next mark."""
    done: list[int] = []
    count = running.Progress.count

    def kill(self: running.Progress, *values: int) -> None:
        count(self, *values)
        done.append(1)
        if len(done) > parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.Progress, "count", kill)
        return run(*arguments)


@pytest.mark.usefixtures("rows", "small_parts")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("at", ["whole", "new", "unlink", "replace", "remove"])
def test_an_export_that_was_killed_at_its_end_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, at: str
) -> None:
    """Before and after each step, from the finished rows to the removed directory."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    whole, file = tmp_path / "expected", tmp_path / "file"
    command = ("export", "--format", name, "--to", file)
    assert run("export", "--format", name, "--to", whole).exit_code == ExitCode.OK
    with monkeypatch.context() as patch:
        kill_at(patch, at, file)
        assert run(*command).exit_code != ExitCode.OK
    assert file.exists() is (at in {"replace", "remove"})
    result = run(*command)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert content(file, name) == content(whole, name)
    assert "6 rows exported" in result.stderr or name == "coco"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["expected", "file"]


def kill_at(patch: pytest.MonkeyPatch, at: str, file: Path) -> None:
    """Have an export to a file end at one step."""
    renamed, unlinked = Path.replace, Path.unlink

    def replace(self: Path, target: Path) -> Path:
        if at == "new" and self.name in {"whole.new", "rows"}:
            raise KeyboardInterrupt
        found = renamed(self, target)
        if (at == "whole" and target.name == "whole") or (at == "replace" and target == file):
            raise KeyboardInterrupt
        return found

    def unlink(self: Path, *, missing_ok: bool = False) -> None:
        unlinked(self, missing_ok=missing_ok)
        if at == "unlink" and self.name == "state.json":
            raise KeyboardInterrupt

    def remove(_directory: Path) -> None:
        if at == "remove":
            raise KeyboardInterrupt

    patch.setattr(Path, "replace", replace)
    patch.setattr(Path, "unlink", unlink)
    patch.setattr(running, "remove", remove)


@pytest.mark.usefixtures("rows", "small_parts")
@pytest.mark.parametrize("name", FORMATS)
def test_an_unfinished_export_without_its_rows_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """No file is made of rows that are gone."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / "file"
    cut_short(monkeypatch, 2, "export", "--format", name, "--to", file)
    for path in (tmp_path / "file.part").iterdir():
        if path.name not in {"state.json", "lock"}:
            path.unlink()
    result = run("export", "--format", name, "--to", file)
    assert result.exit_code == ExitCode.USAGE
    assert "file.part to begin again" in result.stderr
    assert not file.exists()


def content(file: Path, name: str) -> object:
    """What a reader finds in a file."""
    if name == "parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file).to_pylist()
    return file.read_bytes()


@pytest.mark.usefixtures("rows", "small_parts")
def test_an_unfinished_export_with_other_options_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And an age goes on from the first call, so the same command goes on."""
    file = tmp_path / "file"
    older = ("export", "--older-than", "0s", "--to", file)
    cut_short(monkeypatch, 2, *older)
    refused = run("export", "--to", file)
    assert refused.exit_code == ExitCode.USAGE
    assert "other options" in refused.stderr
    assert run(*older).exit_code == ExitCode.OK
    assert len(file.read_text().splitlines()) == 6


@pytest.mark.usefixtures("rows")
def test_a_row_that_arrives_during_an_export_is_not_in_it(
    monkeypatch: pytest.MonkeyPatch, database: Database, small_parts: None
) -> None:
    """The rows are those of the start."""
    part = exports.read_part

    def read(*arguments: Any) -> exports.Part:
        caption_object(database, version(f"late/{arguments[2]}.jpg"), "late")
        return part(*arguments)

    monkeypatch.setattr(exports, "read_part", read)
    assert len(names()) == 6


@pytest.mark.usefixtures("rows")
def test_coco_captions() -> None:
    """Each image once, without categories; answers with boxes are left out, and counted."""
    result = run("export", "--format", "coco")
    coco = json.loads(result.stdout)
    assert [image["file_name"] for image in coco["images"]] == [
        "cats/1.jpg",
        "cats/2.jpg",
        "dogs/1.jpg",
        "dogs/2.jpg",
    ]
    assert set(coco) == {"info", "images", "annotations"}
    assert coco["annotations"][0] == {"id": 1, "image_id": 1, "caption": "a picture of cats/1.jpg"}
    assert coco["images"][0]["width"] == IMAGE.width
    assert "2 rows are left out" in result.stderr


@pytest.mark.usefixtures("rows")
def test_coco_boxes_and_outlines() -> None:
    """Boxes as x, y, width and height; ids lead from annotations to images and categories."""
    coco = json.loads(run("export", "--format", "coco", "--task", "od").stdout)
    assert coco["categories"] == [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    first, second = coco["annotations"]
    assert first == {
        "id": 1,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 20, 20, 40],
        "area": 800,
        "segmentation": [[10, 20, 30, 20, 30, 60, 10, 60]],
        "iscrowd": 0,
    }
    assert (second["bbox"], second["category_id"]) == ([0, 0, 5.5, 5], 2)
    outlines = json.loads(run("export", "--format", "coco", "--task", "region-to-segmentation").stdout)
    (outline,) = outlines["annotations"]
    assert (outline["area"], outline["segmentation"]) == (100, [[0, 0, 10, 0, 10, 10, 0, 10]])


@pytest.mark.usefixtures("rows")
def test_a_text_beside_each_image(tmp_path: Path, database: Database) -> None:
    """The caption that the metadata have; a repetition writes the same files, and new captions."""
    assert run("export", "--format", "txt", "--to", tmp_path / "set").exit_code == ExitCode.OK
    found = {
        str(path.relative_to(tmp_path / "set")): path.read_text() for path in (tmp_path / "set").rglob("*.txt")
    }
    assert found == {
        "cats/1.txt": "a picture of cats/1.jpg\n",
        "cats/2.txt": "a picture of cats/2.jpg\n",
        "dogs/1.txt": "a picture of dogs/1.jpg\n",
        "dogs/2.txt": "=SUM(1)\n",
    }
    with database.transaction() as connection:
        connection.execute(text("UPDATE captions SET caption = 'new' WHERE object_name = 'dogs/1.jpg'"))
    assert run("export", "--format", "txt", "--to", tmp_path / "set").exit_code == ExitCode.OK
    assert (tmp_path / "set" / "dogs" / "1.txt").read_text() == "new\n"
    assert run("export", "--format", "txt", "--task", "od", "--to", tmp_path / "od").exit_code == ExitCode.OK
    assert (tmp_path / "od" / "cats" / "1.txt").read_text() == "cat, dog\n"


def test_an_overwritten_image_gets_a_new_text(tmp_path: Path, database: Database, gcs_server: GcsServer) -> None:
    """The text is the image's, not that of one version: no stale caption stays."""
    bucket = objects(gcs_server).bucket(BUCKET)
    for generation in (1, 2):
        caption_object(database, version("over.jpg", generation), f"generation {generation}")
        for to in (tmp_path / "set", f"gs://{BUCKET}/over"):
            result = run("export", "--format", "txt", "--to", to)
            assert result.exit_code == ExitCode.OK, result.stderr
        assert (tmp_path / "set" / "over.txt").read_text() == f"generation {generation}\n"
        assert bucket.blob("over/over.txt").download_as_bytes().decode() == f"generation {generation}\n"


def test_no_name_leads_out_of_the_directory_and_no_two_names_share_a_file(
    tmp_path: Path, database: Database
) -> None:
    """Hostile names, names that fall together, a link, and a file where another name has a folder."""
    hostile = (
        ".dropline-export.sqlite-journal/x.jpg",
        "../out.jpg",
        "/abs.jpg",
        "a/../../out.jpg",
        "a//b.jpg",
        "x" * 300 + ".jpg",
        "link/out.jpg",
        "a\nb.jpg",
    )
    for name in (*hostile, "a.jpg", "a.png", "A.jpg", "n.txt/b.jpg", "n.jpg", "ok/ö.jpg", "ok/o\u0308.jpg"):
        caption_object(database, version(name), name)
    inside, outside = tmp_path / "set", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    result = run("export", "--format", "txt", "--to", inside)
    assert result.exit_code == ExitCode.FAILED
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt") if path.is_file())
    assert len(written) == 3
    assert {"set/ok/ö.txt"} < set(written)
    assert all(each.startswith("set/") for each in written)
    assert "3 texts written" in result.stderr
    assert "no text for" in result.stderr
    again = run("export", "--format", "txt", "--to", inside)
    assert "3 texts written" in again.stderr


def test_long_names_of_many_bytes_have_their_own_texts(tmp_path: Path, database: Database) -> None:
    """Names of 255 bytes, which share their first 200 characters, written at the same time."""
    names = [f"{'長' * 80}{number:011}.jpg" for number in range(40)]
    names += [f"{'a' * 240}{number:011}.jpg" for number in range(40)]
    for name in names:
        caption_object(database, version(name), name)
    result = run("export", "--format", "txt", "--to", tmp_path / "set")
    assert result.exit_code == ExitCode.OK, result.stderr
    found = {path.name: path.read_text() for path in (tmp_path / "set").glob("*.txt")}
    assert found == {f"{name.removesuffix('.jpg')}.txt": f"{name}\n" for name in names}
    assert {path.name for path in (tmp_path / "set").iterdir()} == {*found, ".dropline-export.sqlite"}


def test_a_name_that_the_file_system_has_no_room_for_is_refused(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have shorter names; the other texts are written."""
    for name in ("a.jpg", f"folder/{'n' * 150}.jpg"):
        caption_object(database, version(name), "a")
    opened = os.open

    def with_short_names(path: Path, *arguments: Any) -> int:
        if "folder" in str(path):
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", with_short_names)
    result = run("export", "--format", "txt", "--to", tmp_path / "set")
    assert result.exit_code == ExitCode.FAILED
    assert "the name is too long for a file" in result.stderr
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["a.txt"]


@pytest.mark.parametrize("place", ["directory", "bucket"])
def test_an_image_has_one_text(tmp_path: Path, connection: Connection, gcs_server: GcsServer, place: str) -> None:
    """Rows of one version, in one part or in two: the first is written, and the others are refused."""
    segments = [f"<REGION_TO_SEGMENTATION><loc_{n}><loc_{n}><loc_3><loc_4>" for n in range(8)]
    for number, task in enumerate(segments):
        answer(connection, "many.jpg", task, f"number {number}", OUTLINE)
    to = tmp_path / "set" if place == "directory" else f"gs://{BUCKET}/many"
    result = run("export", "--format", "txt", "--task", "region-to-segmentation", "--to", to)
    assert result.exit_code == ExitCode.FAILED
    assert "1 texts written" in result.stderr
    assert result.stderr.count("an image has one text, that of an earlier row") == 7
    blob = objects(gcs_server).bucket(BUCKET).blob("many/many.txt")
    written = (tmp_path / "set" / "many.txt").read_bytes() if place == "directory" else blob.download_as_bytes()
    assert written == b"number 0\n"


def objects(gcs_server: GcsServer) -> Client:
    """A client of the emulator."""
    from dropline.storage.client import make_client

    return make_client("test", gcs_server.url)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("name", FORMATS)
def test_an_object_that_the_function_filters(gcs_server: GcsServer, name: str) -> None:
    """The export in a bucket of images gets no row."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    uri = f"gs://{BUCKET}/exports/rows.{name}"
    result = run("export", "--format", name, "--to", uri)
    assert result.exit_code == ExitCode.OK, result.stderr
    blob = objects(gcs_server).bucket(BUCKET).get_blob(f"exports/rows.{name}")
    if name == "jsonl":
        assert [json.loads(line)["uri"] for line in blob.download_as_bytes().splitlines()] == [
            row["uri"] for row in exported()
        ]
    assert is_filtered(blob)


def is_filtered(blob: Any) -> bool:
    """Whether the function's default rules filter an object."""
    facts = ObjectFacts(blob.content_type, blob.size)
    selection = Selection(EventSettings(buckets=(BUCKET,)))
    return isinstance(selection.judge(ObjectVersion(BUCKET, blob.name, 1), facts, None), Filtered)


@pytest.mark.usefixtures("rows", "small_parts")
def test_an_export_to_an_object_that_was_cut_short_leaves_none(
    monkeypatch: pytest.MonkeyPatch, gcs_server: GcsServer
) -> None:
    """An upload that ended early would look like a whole export."""
    assert cut_short(monkeypatch, 2, "export", "--to", f"gs://{BUCKET}/cut.jsonl").exit_code != ExitCode.OK
    assert objects(gcs_server).bucket(BUCKET).get_blob("cut.jsonl") is None


@pytest.mark.usefixtures("rows")
def test_texts_in_a_bucket(gcs_server: GcsServer) -> None:
    """Beside the images, or below a prefix; the function filters them, and another program's object stays."""
    bucket = objects(gcs_server).bucket(BUCKET)
    bucket.blob("texts/dogs/1.txt").upload_from_string("mine", content_type="text/plain")
    result = run("export", "--format", "txt", "--to", f"gs://{BUCKET}/texts")
    assert result.exit_code == ExitCode.FAILED
    assert "no export wrote it" in result.stderr
    assert bucket.blob("texts/dogs/1.txt").download_as_bytes() == b"mine"
    blob = bucket.get_blob("texts/dogs/2.txt")
    assert blob.download_as_bytes() == b"=SUM(1)\n"
    assert is_filtered(blob)
    again = run("export", "--format", "txt", "--prefix", "cats/", "--to", f"gs://{BUCKET}/texts")
    assert again.exit_code == ExitCode.OK, again.stderr


def test_no_two_images_share_a_text_in_a_bucket(database: Database, gcs_server: GcsServer) -> None:
    """Names with another extension and in another bucket: the first keeps the text, also at a repetition."""
    bucket = objects(gcs_server).bucket(BUCKET)
    caption_object(database, version("shared/a.jpg"), "first")
    assert run("export", "--format", "txt", "--to", f"gs://{BUCKET}").exit_code == ExitCode.OK
    for other in (version("shared/a.png"), version("shared/a.jpg", bucket="elsewhere")):
        caption_object(database, other, "second")
    result = run("export", "--format", "txt", "--to", f"gs://{BUCKET}")
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr.count(f"is the text of gs://{BUCKET}/shared/a.jpg") == 2
    assert "1 texts written" in result.stderr
    assert bucket.blob("shared/a.txt").download_as_bytes() == b"first\n"


def test_texts_that_several_exports_write_at_once(gcs_server: GcsServer) -> None:
    """Each race ends with a text of one image; an export that loses is told the owner."""
    storage = ExportStorage(Storage.on_emulator(gcs_server.url, "test"))

    def write(number: int) -> str:
        return storage.write_text(BUCKET, f"raced/{number // 8}.txt", "x", f"gs://{BUCKET}/{number % 2}.jpg")

    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(write, range(64)))
    for name in range(8):
        owners = {reason == "" for reason in reasons[8 * name : 8 * name + 8 : 2]}
        others = {reason == "" for reason in reasons[8 * name + 1 : 8 * name + 8 : 2]}
        assert {*owners, *others} == {True, False}
        assert len(owners) == len(others) == 1


def test_a_text_that_is_deleted_or_replaced_meanwhile(
    gcs_server: GcsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the object and its replacement: the text is written all the same."""
    storage = ExportStorage(Storage.on_emulator(gcs_server.url, "test"))
    bucket = objects(gcs_server).bucket(BUCKET)
    image = f"gs://{BUCKET}/gone.jpg"
    assert storage.write_text(BUCKET, "gone.txt", "old", image) == ""
    found, changes = ExportStorage._found, ["delete", "replace"]

    def meanwhile(self: ExportStorage, *arguments: str) -> tuple[int, str]:
        seen = found(self, *arguments)
        match changes.pop(0) if changes else "":
            case "delete":
                bucket.blob("gone.txt").delete()
            case "replace":
                with monkeypatch.context() as patch:
                    patch.setattr(ExportStorage, "_found", found)
                    assert storage.write_text(BUCKET, "gone.txt", "of the other", image) == ""
        return seen

    monkeypatch.setattr(ExportStorage, "_found", meanwhile)
    assert storage.write_text(BUCKET, "gone.txt", "new", image) == ""
    assert changes == []
    assert bucket.blob("gone.txt").download_as_bytes() == b"new"


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--format", "txt"), "--to DIR"),
        (("--format", "txt", "--to", "/nowhere", "--every-generation"), "--every-generation"),
        (("--format", "xml"), "xml"),
        (("--task", "nonsense"), "no task of Florence-2"),
        (("--to", "gs://"), "names no bucket"),
        (("--to", f"gs://{BUCKET}/"), "names no object"),
        (("--to", "/"), "is a directory"),
        (("--to", "/nowhere/file"), "cannot be written"),
        (("--older-than", "yesterday"), "--older-than"),
        (("--prefix", "a\0"), "no row has"),
    ],
)
def test_a_wrong_command_line(arguments: Sequence[str], told: str) -> None:
    """Exit code 2, and the reason."""
    result = run("export", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert told in result.stderr


@pytest.mark.usefixtures("rows")
def test_parquet_without_pyarrow_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is left behind."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("export", "--format", "parquet", "--to", tmp_path / "a.parquet")
    assert result.exit_code == ExitCode.USAGE
    assert "dropline[export]" in result.stderr
