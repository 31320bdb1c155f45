"""Rows as lines and as CSV, and the names of texts beside images."""

import csv
import io
import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from db.reads import CaptionRecord
from dropline.contract import Status
from operations.export.coco import CocoFile
from operations.export.lines import COLUMNS, as_csv, as_json_lines, csv_head
from operations.export.texts import text_name, unsafe_reason
from operations.export.works import work_in

NOW = datetime(2026, 11, 27, 10, 0, tzinfo=UTC)
#: Any text that Postgres can have.
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=40)


def a_row(**values: Any) -> CaptionRecord:
    """A captioned row."""
    known: dict[str, Any] = dict.fromkeys(CaptionRecord.__dataclass_fields__)
    known |= {"id": 1, "bucket": "drops", "object_name": "a.jpg", "generation": 1, "task": "<CAPTION>"}
    return CaptionRecord(**(known | {"status": Status.CAPTIONED, "queued_at": NOW, "updated_at": NOW} | values))


@given(caption=TEXTS, name=TEXTS)
def test_a_line_of_json_has_the_values(caption: str, name: str) -> None:
    """One row is one line, whatever is in its texts."""
    written = as_json_lines([a_row(caption=caption, object_name=name, result={"labels": [caption]})])
    assert len(written.decode().splitlines()) == 1
    read = json.loads(written)
    assert (read["caption"], read["object_name"], read["result"]) == (caption, name, {"labels": [caption]})
    assert read["queued_at"] == "2026-11-27T10:00:00+00:00"


@given(caption=TEXTS, name=TEXTS)
def test_csv_has_the_values_and_no_formula(caption: str, name: str) -> None:
    """A reader of RFC 4180 gets one record with each value; none begins a formula."""
    written = csv_head() + as_csv([a_row(caption=caption, object_name=name, result={"labels": [caption]})])
    head, record = csv.reader(io.StringIO(written.decode(), newline=""), strict=True)
    read = dict(zip(head, record, strict=True))
    assert head == ["uri", *COLUMNS]
    assert read["caption"].removeprefix("'") == caption.removeprefix("'")
    assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in record)
    assert json.loads(read["result"]) == {"labels": [caption]}


def test_csv_by_rfc_4180() -> None:
    """Lines end with CR LF; quotes are doubled; NULL is empty; a number stays one."""
    row = a_row(caption='a "red" car,\nand =1+1', error='=HYPERLINK("x")', width=400)
    written = as_csv([row]).decode()
    assert written.endswith("\r\n")
    assert '"a ""red"" car,\nand =1+1"' in written
    assert '"\'=HYPERLINK(""x"")"' in written
    assert ",400,,'=HYPERLINK" not in written
    assert ",400," in written


def test_a_row_that_is_added_twice_is_once_in_a_coco_file(tmp_path: Path) -> None:
    """After an interruption, the rows since the last mark are added again."""
    rows = [a_row(caption="a cat"), a_row(id=2, task="<DETAILED_CAPTION>", caption="a grey cat")]
    coco = CocoFile(tmp_path / "rows.sqlite", with_regions=False)
    assert (coco.add(rows[:1]), coco.add(rows)) == (0, 0)
    written = io.BytesIO()
    coco.write(written)
    coco.close()
    document = json.loads(written.getvalue())
    assert [each["caption"] for each in document["annotations"]] == ["a cat", "a grey cat"]
    assert len(document["images"]) == 1


def test_rows_that_change_after_the_mark_are_not_mixed(tmp_path: Path) -> None:
    """The repetition has each row as it is now: with fewer boxes, with other labels, or not at all."""

    def boxes(row_id: int, *labels: str) -> CaptionRecord:
        result = {"bboxes": [[0, 0, 5, 5]] * len(labels), "labels": list(labels)}
        return a_row(id=row_id, object_name=f"{row_id}.jpg", task="<OD>", caption="boxes", result=result)

    kept, changed = boxes(1, "cat"), [boxes(2, "dog"), boxes(4, "cat", "bird")]
    with closing(work_in(tmp_path, "coco", with_regions=True)) as first:
        first.add([kept])
        mark = first.mark()
        first.add([boxes(2, "dog", "fox", "cat"), boxes(3, "owl")])
    with closing(work_in(tmp_path, "coco", with_regions=True)) as again:
        again.go_back(mark)
        again.add(changed)
        again.finish(tmp_path / "again")
    (tmp_path / "new").mkdir()
    with closing(work_in(tmp_path / "new", "coco", with_regions=True)) as new:
        new.add([kept, *changed])
        new.finish(tmp_path / "whole")
    assert json.loads((tmp_path / "again").read_bytes()) == json.loads((tmp_path / "whole").read_bytes())


def test_a_row_of_coco_that_is_added_again_has_its_newest_boxes_alone(tmp_path: Path) -> None:
    """No box of the earlier answer stays."""
    rows = [
        a_row(task="<OD>", caption="boxes", result={"bboxes": [[0, 0, 5, 5]] * count, "labels": ["a"] * count})
        for count in (3, 1)
    ]
    with closing(work_in(tmp_path, "coco", with_regions=True)) as work:
        for row in rows:
            work.add([row])
        work.finish(tmp_path / "whole")
    assert len(json.loads((tmp_path / "whole").read_bytes())["annotations"]) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", "a.txt"),
        ("b/c.tar.gz", "b/c.tar.txt"),
        ("b.d/c", "b.d/c.txt"),
        (".hidden", ".hidden.txt"),
        ("folder/", ""),
        ("", ""),
    ],
)
def test_the_text_has_the_name_of_the_image(name: str, expected: str) -> None:
    """The last extension is replaced."""
    assert text_name(name) == expected


@pytest.mark.parametrize(
    "name",
    [
        "../a.txt",
        "/etc/a.txt",
        "a/../../b.txt",
        "a/./b.txt",
        "a//b.txt",
        "a\x00b.txt",
        "a\nb.txt",
        "..\\a.txt",
        ".dropline-export.txt",
        ".dropline-export.sqlite-journal/a.txt",
        ".Dropline-Export.sqlite/a.txt",
        "a/.dropline-export-1-1.new/a.txt",
        "a" * 256 + ".txt",
        "é" * 126 + ".txt",
        "/".join(["ab"] * 1100),
    ],
)
def test_a_hostile_name_is_refused(name: str) -> None:
    """Names that lead elsewhere, or that no file can have."""
    assert unsafe_reason(name)


@given(st.text(max_size=60) | st.lists(st.sampled_from(["..", ".", "", "a", "/", "b.jpg"])).map("/".join))
def test_a_name_without_a_reason_stays_below_the_directory(name: str) -> None:
    """Whatever the name is."""
    text = text_name(name)
    if text and not unsafe_reason(text):
        path = Path("/exports").joinpath(*text.split("/"))
        assert path.is_relative_to("/exports")
        assert ".." not in PurePosixPath(path).parts
        assert path.name.endswith(".txt")
