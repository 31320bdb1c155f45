"""Rows as a COCO file: images, annotations, and categories for boxes.

A COCO file has all images before all annotations, and each image once, so rows are put into an SQLite file first
and the document is written from the file: in constant memory, and each image once for all answers. The readers of
COCO take either captions or boxes from one file, so an export has either kind.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from db.reads import CaptionRecord
from dropline.contract import TaskRequest
from dropline.errors import InvalidTask
from dropline.regions import Box, Outline, Polygon, regions_of

_SCHEMA = """
    CREATE TABLE IF NOT EXISTS images (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, row_id INTEGER NOT NULL, document TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS categories (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
    CREATE TABLE IF NOT EXISTS annotations (
        row_id INTEGER NOT NULL, number INTEGER NOT NULL, image INTEGER NOT NULL, category INTEGER,
        document TEXT NOT NULL, PRIMARY KEY (row_id, number)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS added (one INTEGER PRIMARY KEY CHECK (one = 1), last INTEGER NOT NULL);
"""
_BEHIND = (
    "DELETE FROM annotations WHERE row_id > ?",
    # Of the first row of the image: the others come later.
    "DELETE FROM images WHERE row_id > ?",
)
#: Label of an unnamed region.
_NO_LABEL = "region"


class CocoFile:
    """Rows on the way into a COCO file. A row may be added twice, after an interruption."""

    def __init__(self, path: Path, *, with_regions: bool) -> None:
        """Open or create the SQLite file.

        Args:
            path: of the SQLite file.
            with_regions: boxes and polygons of the answers with regions; else the texts of the other answers.
        """
        self._with_regions = with_regions
        self._data = sqlite3.connect(path)
        self._data.executescript(_SCHEMA)

    def add(self, rows: Sequence[CaptionRecord]) -> int:
        """Add the captioned rows of the kind; the number of rows left out."""
        left_out = 0
        for row in rows:
            if row.caption is None or gives_regions(row) is not self._with_regions:
                left_out += 1
                continue
            self._add(row)
        if rows:
            self._data.execute("INSERT OR REPLACE INTO added VALUES (1, ?)", (rows[-1].id,))
        self._data.commit()
        return left_out

    def last(self) -> int:
        """The id of the row added last; 0 before the first row. All rows are on the disk."""
        found = self._data.execute("SELECT last FROM added").fetchone()
        return int(found[0]) if found else 0

    def forget_after(self, last: int) -> None:
        """Remove the rows with larger ids, as if never added: the rows may have changed since."""
        for statement in _BEHIND:
            self._data.execute(statement, (last,))
        self._data.execute(
            "DELETE FROM categories WHERE id NOT IN (SELECT category FROM annotations WHERE category IS NOT NULL)"
        )
        self._data.execute("UPDATE added SET last = ?", (last,))
        self._data.commit()

    def _add(self, row: CaptionRecord) -> None:
        key = f"{row.bucket}/{row.object_name}#{row.generation}"
        self._data.execute(
            "INSERT OR IGNORE INTO images (key, row_id, document) VALUES (?, ?, ?)",
            (key, row.id, _dump(_image(row))),
        )
        self._data.execute("DELETE FROM annotations WHERE row_id = ?", (row.id,))
        (image,) = self._data.execute("SELECT id FROM images WHERE key = ?", (key,)).fetchone()
        for number, (label, annotation) in enumerate(self._annotations(row)):
            category = None if label is None else self._category(label)
            self._data.execute(
                "INSERT INTO annotations VALUES (?, ?, ?, ?, ?)",
                (row.id, number, image, category, _dump(annotation)),
            )

    def _annotations(self, row: CaptionRecord) -> Iterator[tuple[str | None, dict[str, Any]]]:
        if not self._with_regions:
            yield None, {"caption": row.caption}
            return
        for region in regions_of(row.result):
            yield region.label or _NO_LABEL, _region(region)

    def _category(self, label: str) -> int:
        self._data.execute("INSERT OR IGNORE INTO categories (name) VALUES (?)", (label,))
        (found,) = self._data.execute("SELECT id FROM categories WHERE name = ?", (label,)).fetchone()
        return int(found)

    def write(self, out: BinaryIO) -> None:
        """Write the document, one member of a list after the other."""
        out.write(b'{"info":{"description":"Captions of Dropline"},"images":[')
        _write_list(out, self._members("SELECT id, document FROM images ORDER BY id"))
        if self._with_regions:
            out.write(b'],"categories":[')
            _write_list(out, ({"id": each, "name": name} for each, name in self._rows(_CATEGORIES)))
        out.write(b'],"annotations":[')
        _write_list(out, self._written_annotations())
        out.write(b"]}\n")

    def _written_annotations(self) -> Iterator[dict[str, Any]]:
        for number, (image, category, document) in enumerate(self._rows(_ANNOTATIONS), 1):
            members = {"id": number, "image_id": image}
            yield members | ({} if category is None else {"category_id": category}) | json.loads(document)

    def _members(self, query: str) -> Iterator[dict[str, Any]]:
        for each, document in self._rows(query):
            yield {"id": each, **json.loads(document)}

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        return iter(self._data.execute(query))

    def close(self) -> None:
        """Close the SQLite file."""
        self._data.close()


_CATEGORIES = "SELECT id, name FROM categories ORDER BY id"
_ANNOTATIONS = "SELECT image, category, document FROM annotations ORDER BY row_id, number"


def gives_regions(row: CaptionRecord) -> bool:
    """Whether the row is an answer with boxes or polygons; False for a task of a later release."""
    with suppress(InvalidTask):
        return TaskRequest.parse(row.task).prompt.gives_regions
    return False


def _image(row: CaptionRecord) -> dict[str, Any]:
    size = {"width": row.width, "height": row.height}
    return {"file_name": row.object_name, "coco_url": row.version.uri, **size}


def _region(region: Box | Polygon) -> dict[str, Any]:
    outlines = region.outlines
    points = [point for outline in outlines for point in outline]
    left, top = min(x for x, _ in points), min(y for _, y in points)
    width, height = max(x for x, _ in points) - left, max(y for _, y in points) - top
    return {
        "bbox": _rounded((left, top, width, height)),
        "area": round(sum(map(_area, outlines)), 2),
        "segmentation": [_rounded(value for point in outline for value in point) for outline in outlines],
        "iscrowd": 0,
    }


def _area(outline: Outline) -> float:
    """The area of a polygon, by the shoelace formula."""
    following = (*outline[1:], outline[0])
    return (
        abs(sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in zip(outline, following, strict=True))) / 2
    )


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 2) for value in values]


def _dump(members: dict[str, Any]) -> str:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":"))


def _write_list(out: BinaryIO, members: Iterable[dict[str, Any]]) -> None:
    separator = b"\n"
    for each in members:
        out.write(separator + _dump(each).encode())
        separator = b",\n"
