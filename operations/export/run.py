"""Exports to a stream, to a file and to an object of Cloud Storage; an export to a file goes on after a kill."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

from db import exports
from db.exports import Chosen
from db.reads import CaptionRecord
from db.session import Database
from dropline.errors import ClientError
from operations.export.coco import CocoFile
from operations.export.lines import COLUMNS
from operations.export.works import Work, remove, stream, work_in

#: Parts after which the state of an export to a file is written.
_PARTS_OF_A_MARK = 20
_LOCK = "lock"
_COLUMNS = " ".join(COLUMNS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An export."""

    format: str
    chosen: Chosen
    #: COCO: boxes and polygons instead of captions.
    with_regions: bool = False
    #: The options as given, to tell two exports apart.
    options: str = ""

    def captioned_before(self, moment: str) -> "Wanted":
        """The export with the moment of an earlier call: an age, as `7d`, counts from the first call."""
        if not moment:
            return self
        row_filter = replace(self.chosen.row_filter, older_than=datetime.fromisoformat(moment))
        return replace(self, chosen=replace(self.chosen, row_filter=row_filter))


@dataclass
class Progress:
    """How far an export is."""

    #: The largest id of the export; 0 before the first part.
    last: int = 0
    #: All rows up to the id are read.
    done: int = 0
    rows: int = 0
    #: Rows without a place in the format.
    left_out: int = 0
    #: True if an interrupted export goes on.
    is_resumed: bool = False
    on_part: Callable[[], None] = field(default=lambda: None)

    def count(self, rows: int, left_out: int, done: int) -> None:
        """A part is written."""
        self.rows += rows - left_out
        self.left_out += left_out
        self.done = done
        self.on_part()


def export_to_stream(database: Database, wanted: Wanted, out: BinaryIO, progress: Progress) -> None:
    """Write an export to a stream.

    Raises:
        ClientError: a library is missing.
        DatabaseUnavailable: Postgres cannot be reached.
        OSError: the stream cannot be written.
    """
    progress.last = exports.last_id(database)
    if wanted.format != "coco":
        stream(out, wanted.format, _counted(database, wanted, progress))
        return
    with (
        TemporaryDirectory(prefix="dropline-export-") as directory,
        closing(CocoFile(Path(directory) / "rows.sqlite", with_regions=wanted.with_regions)) as coco,
    ):
        for part in exports.parts(database, wanted.chosen, 0, progress.last):
            progress.count(len(part.rows), coco.add(part.rows), part.done)
        coco.write(out)


def _counted(database: Database, wanted: Wanted, progress: Progress) -> Iterator[Sequence[CaptionRecord]]:
    for part in exports.parts(database, wanted.chosen, 0, progress.last):
        yield part.rows
        progress.count(len(part.rows), 0, part.done)


def export_to_file(database: Database, wanted: Wanted, path: Path, progress: Progress) -> None:
    """Write an export to a file, which appears as a whole.

    Until then the rows are in the directory `PATH.part`. A call with the same arguments goes on.

    Raises:
        ClientError: the directory has another export, or another process uses the directory; a library is missing.
        DatabaseUnavailable: Postgres cannot be reached.
        OSError: the file cannot be written.
    """
    directory = path.with_name(f"{path.name}.part")
    directory.mkdir(exist_ok=True)
    with _locked(directory):
        state = _State.read(directory, wanted)
        wanted = wanted.captioned_before(state.older_than)
        whole = directory / "whole"
        if whole.exists():
            # The earlier process ended between the end of the work and the next lines.
            _begin(progress, state)
        else:
            with closing(work_in(directory, wanted.format, with_regions=wanted.with_regions)) as work:
                _go_on(database, wanted, progress, work, state)
                work.finish(whole)
        # First the state: without a state the next call begins again, and takes no other file for rows.
        state.path.unlink()
        whole.replace(path)
        remove(directory)


def _begin(progress: Progress, state: "_State") -> None:
    progress.is_resumed = state.last > 0
    progress.last, progress.done = state.last, state.after
    progress.rows, progress.left_out = state.rows, state.left_out


def _go_on(database: Database, wanted: Wanted, progress: Progress, work: Work, state: "_State") -> None:
    _begin(progress, state)
    progress.last = progress.last or exports.last_id(database)
    if progress.is_resumed:
        work.go_back(state.mark)
    for number, part in enumerate(exports.parts(database, wanted.chosen, state.after, progress.last), 1):
        progress.count(len(part.rows), work.add(part.rows), part.done)
        if not number % _PARTS_OF_A_MARK:
            state.write(work.mark(), progress)
    state.write(work.mark(), progress)


@dataclass
class _State:
    """The file with the state of an export."""

    path: Path
    export: str
    older_than: str
    #: Of the rows written already.
    columns: str = ""
    last: int = 0
    after: int = 0
    mark: int = 0
    rows: int = 0
    left_out: int = 0

    @classmethod
    def read(cls, directory: Path, wanted: Wanted) -> "_State":
        """The state of the directory, or of a new export."""
        path = directory / "state.json"
        if not path.exists():
            _remove_rows(directory)
            moment = wanted.chosen.row_filter.older_than
            return cls(path, wanted.options, moment.isoformat() if moment else "", _COLUMNS)
        try:
            found: dict[str, Any] = json.loads(path.read_bytes())
            state = cls(path, **found)
        except (ValueError, TypeError) as error:
            raise ClientError(f"{path} cannot be read ({error}); delete {directory} to begin again") from error
        if state.export != wanted.options:
            raise ClientError(
                f"{directory} has an unfinished export with other options: repeat that one, delete the directory, "
                "or write to another file"
            )
        if state.columns != _COLUMNS:
            raise ClientError(
                f"{directory} has an unfinished export of another release, which has other columns: delete the "
                "directory, or write to another file"
            )
        return state

    def write(self, mark: int, progress: Progress) -> None:
        """Replace the file as a whole, at each moment."""
        self.last, self.after, self.mark = progress.last, progress.done, mark
        self.rows, self.left_out = progress.rows, progress.left_out
        values = {name: value for name, value in asdict(self).items() if name != "path"}
        new = self.path.with_suffix(".new")
        with new.open("w") as file:
            json.dump(values, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)


def _remove_rows(directory: Path) -> None:
    """Remove the files of an export without a first mark."""
    for path in directory.iterdir():
        if path.name != _LOCK:
            path.unlink()


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClientError(f"another export writes to {directory}; wait for its end") from None
        yield
