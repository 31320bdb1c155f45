"""Unfinished exports in a directory, by format: rows are added, and a mark outlives the process."""

import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO, Protocol

from db.reads import CaptionRecord
from dropline.errors import ClientError
from operations.export.coco import CocoFile
from operations.export.lines import FORMATS
from operations.export.parquet import ParquetFile, pyarrow


class Work(Protocol):
    """The rows of an unfinished export."""

    def add(self, rows: Sequence[CaptionRecord]) -> int:
        """Add rows; the number left out by the format."""

    def mark(self) -> int:
        """Have all rows on the disk; the value for `go_back`."""

    def go_back(self, mark: int) -> None:
        """Forget the rows after a mark of an earlier process.

        Raises:
            ClientError: rows from before the mark are gone.
        """

    def finish(self, path: Path) -> None:
        """Make the finished file, which appears as a whole; `path` is in the same file system."""

    def close(self) -> None:
        """Close the files."""


class LinesWork:
    """JSON lines and CSV: a file that grows."""

    def __init__(self, directory: Path, name: str) -> None:
        head, self._rows = FORMATS[name]
        self._path = directory / "rows"
        self._file = self._path.open("ab")
        if not self._file.tell():
            self._file.write(head())

    def add(self, rows: Sequence[CaptionRecord]) -> int:
        self._file.write(self._rows(rows))
        return 0

    def mark(self) -> int:
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def go_back(self, mark: int) -> None:
        self._file.flush()
        if os.fstat(self._file.fileno()).st_size < mark:
            # A longer file would have zeros there.
            raise lost_rows(self._path)
        self._file.truncate(mark)
        self._file.seek(mark)

    def finish(self, path: Path) -> None:
        self._file.close()
        self._path.replace(path)

    def close(self) -> None:
        self._file.close()


class CocoWork:
    """COCO: an SQLite file. A mark is the id of the last row."""

    def __init__(self, directory: Path, *, with_regions: bool) -> None:
        self._path = directory / "rows.sqlite"
        self._coco = CocoFile(self._path, with_regions=with_regions)

    def add(self, rows: Sequence[CaptionRecord]) -> int:
        return self._coco.add(rows)

    def mark(self) -> int:
        return self._coco.last()

    def go_back(self, mark: int) -> None:
        if self._coco.last() < mark:
            raise lost_rows(self._path)
        self._coco.forget_after(mark)

    def finish(self, path: Path) -> None:
        new = path.with_suffix(".new")
        with new.open("wb") as out:
            self._coco.write(out)
            out.flush()
            os.fsync(out.fileno())
        new.replace(path)

    def close(self) -> None:
        self._coco.close()


class ParquetWork:
    """Parquet: a file for each mark, since a finished Parquet file cannot grow; joined at the end."""

    def __init__(self, directory: Path) -> None:
        pyarrow()
        self._directory = directory
        self._number = 0
        self._file: ParquetFile | None = None

    def add(self, rows: Sequence[CaptionRecord]) -> int:
        if self._file is None:
            self._number += 1
            self._file = ParquetFile(self._path(self._number))
        self._file.add(rows)
        return 0

    def mark(self) -> int:
        if self._file is not None:
            self._file.close()
            self._file = None
            _sync(self._path(self._number))
        return self._number

    def go_back(self, mark: int) -> None:
        if not all(self._path(number).exists() for number in range(1, mark + 1)):
            raise lost_rows(self._path(mark))
        self._number = mark

    def finish(self, path: Path) -> None:
        self.mark()
        new = path.with_suffix(".new")
        with closing(ParquetFile(new)) as whole:
            for number in range(1, self._number + 1):
                whole.add_file(self._path(number))
        _sync(new)
        new.replace(path)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:06}.parquet"


def work_in(directory: Path, name: str, *, with_regions: bool) -> Work:
    """The unfinished export of a format."""
    if name == "coco":
        return CocoWork(directory, with_regions=with_regions)
    return ParquetWork(directory) if name == "parquet" else LinesWork(directory, name)


def stream(out: BinaryIO, name: str, parts: Iterable[Sequence[CaptionRecord]]) -> None:
    """Write rows straight to a stream, in a format that needs no directory."""
    if name == "parquet":
        with closing(ParquetFile(out)) as file:
            for rows in parts:
                file.add(rows)
        return
    head, lines = FORMATS[name]
    out.write(head())
    for rows in parts:
        out.write(lines(rows))


def remove(directory: Path) -> None:
    """Remove a directory of an export."""
    shutil.rmtree(directory)


def lost_rows(path: Path) -> ClientError:
    """The error of an unfinished export without its rows."""
    return ClientError(f"{path} lacks rows that its export had written; delete {path.parent} to begin again")


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
