"""`dropline export` with a real Postgres and Cloud Storage: its rows and formats."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from google.cloud.storage import Bucket
from sqlalchemy import text

from cli.exit_codes import ExitCode
from db import exports
from db.caption_filter import CaptionFilter
from db.session import Database
from dropline.contract import Status
from tests.support.exports import (
    BOXES,
    FORMATS,
    is_filtered,
    version,
)
from tests.support.rows import IMAGE, caption_object
from tests.support.shell import BUCKET, run


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


def test_formats_have_the_same_rows(rows: Database, tmp_path: Path) -> None:
    """Lines, CSV and Parquet, on standard output and in a file."""
    pq = pytest.importorskip("pyarrow.parquet")
    with rows.transaction() as connection:
        connection.execute(text("UPDATE captions SET copied_from = 77 WHERE id = (SELECT min(id) FROM captions)"))
    lines = exported()
    assert [row["copied_from"] for row in lines[:2]] == [77, None]
    read = csv.DictReader(io.StringIO(run("export", "--format", "csv").stdout, newline=""))
    assert [row["uri"] for row in read] == [row["uri"] for row in lines]
    assert "'=SUM(1)" in run("export", "--format", "csv", "--prefix", "dogs/2").stdout
    file = tmp_path / "a.parquet"
    assert run("export", "--format", "parquet", "--to", file).exit_code == ExitCode.OK
    table = pq.read_table(file).to_pylist()
    for name in ("caption", "copied_from"):
        assert [row[name] for row in table] == [row[name] for row in lines]
    assert json.loads(table[4]["result"]) == BOXES
    assert table[0]["captioned_at"].isoformat() == lines[0]["captioned_at"]


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
@pytest.mark.parametrize("name", FORMATS)
def test_an_object_that_the_function_filters(bucket: Bucket, name: str) -> None:
    """The export in a bucket of images gets no row."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    uri = f"gs://{BUCKET}/exports/rows.{name}"
    result = run("export", "--format", name, "--to", uri)
    assert result.exit_code == ExitCode.OK, result.stderr
    blob = bucket.get_blob(f"exports/rows.{name}")
    if name == "jsonl":
        assert [json.loads(line)["uri"] for line in blob.download_as_bytes().splitlines()] == [
            row["uri"] for row in exported()
        ]
    assert is_filtered(blob)


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
        (("--to", "gs://no-such-bucket/rows.jsonl"), "gs://no-such-bucket is not there"),
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
