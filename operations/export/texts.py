"""A text file beside each image, in a directory or in a bucket, as trainers of image models read captions.

Object names are untrusted: no name leads out of the directory, and no two names share a file.
"""

import errno
import itertools
import os
import sqlite3
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from db import exports
from db.exports import Chosen
from db.reads import CaptionRecord
from db.session import Database
from operations.export.run import Progress

SUFFIX = ".txt"
#: Of a part of a path, and of a whole path, in bytes: the limits of Linux, with room for the directory.
_MOST_PART, _MOST_PATH = 255, 3072
_MOST_OBJECT_NAME = 1024
#: Objects written at the same time.
_AT_ONCE = 16
_MOST_SHOWN = 10
#: The beginning of the names of an export's own files.
_OWN = ".dropline-export"
#: Beside the texts: the names with a file, to find two that fall together.
_NAMES = f"{_OWN}.sqlite"
_SECOND = "an image has one text, that of an earlier row; choose rows with --task, --model or --revision"


class TextPlace(Protocol):
    """Where the texts are written."""

    def put(self, row: CaptionRecord, name: str) -> str:
        """Write the caption; empty, or the reason why it is left out."""


@dataclass
class Refused:
    """Texts left out."""

    count: int = 0
    #: The first ones, as `gs://… : reason`.
    examples: list[str] = field(default_factory=list)

    def add(self, row: CaptionRecord, reason: str) -> None:
        """Count another text."""
        self.count += 1
        if len(self.examples) < _MOST_SHOWN:
            self.examples.append(f"{row.version.uri}: {reason}")


def export_texts(
    database: Database, chosen: Chosen, place: TextPlace, progress: Progress, *, own_task: bool
) -> Refused:
    """Write the captions; a repetition writes the same files again.

    Args:
        database: with the rows.
        chosen: the rows.
        place: a directory, or a prefix of a bucket.
        progress: is counted.
        own_task: only the answer in the object's metadata; an object may have answers of further tasks.
    """
    refused = Refused()
    progress.last = exports.last_id(database)
    with ThreadPoolExecutor(_AT_ONCE) as pool, closing(_Images()) as images:
        for part in exports.parts(database, chosen, 0, progress.last):
            wanted = [row for row in part.rows if row.caption is not None and (row.write_back or not own_task)]
            firsts = [row for row in wanted if images.is_new(row)]
            groups = pool.map(lambda rows: [(row.id, _put(place, row)) for row in rows], _by_file(firsts))
            reasons = dict(itertools.chain.from_iterable(groups))
            for row in wanted:
                if reason := reasons.get(row.id, _SECOND):
                    refused.add(row, reason)
            written = sum(not reason for reason in reasons.values())
            progress.count(len(part.rows), len(part.rows) - written, part.done)
    return refused


class _Images:
    """The images of an export with a text; in constant memory."""

    def __init__(self) -> None:
        # A temporary file of SQLite, beyond the pages in memory.
        self._data = sqlite3.connect("", isolation_level=None)
        self._data.execute("PRAGMA journal_mode = OFF")
        self._data.execute("CREATE TABLE images (image TEXT PRIMARY KEY) WITHOUT ROWID")

    def is_new(self, row: CaptionRecord) -> bool:
        """Whether no earlier row is of the same image."""
        return self._data.execute("INSERT OR IGNORE INTO images VALUES (?)", (_image(row),)).rowcount == 1

    def close(self) -> None:
        self._data.close()


def _by_file(rows: Sequence[CaptionRecord]) -> Iterable[Sequence[CaptionRecord]]:
    """Rows in groups with a common file: a single thread writes a group, so the earliest row has the file."""
    groups: dict[str, list[CaptionRecord]] = {}
    for row in rows:
        groups.setdefault(_key(text_name(row.object_name)), []).append(row)
    return groups.values()


def _key(name: str) -> str:
    """A key for names of different case or form of Unicode: a single file on some systems."""
    return unicodedata.normalize("NFC", name).casefold()


def _put(place: TextPlace, row: CaptionRecord) -> str:
    name = text_name(row.object_name)
    return place.put(row, name) if name else "the name ends with a slash"


def _image(row: CaptionRecord) -> str:
    """The object of the text, in any generation: a text outlives an overwritten version."""
    return f"gs://{row.bucket}/{row.object_name}"


def text_name(object_name: str) -> str:
    """The name of the text beside an image: the last extension is replaced; empty for a name of a folder."""
    folder, slash, last = object_name.rpartition("/")
    stem = last.rpartition(".")[0] or last
    return f"{folder}{slash}{stem}{SUFFIX}" if last else ""


def unsafe_reason(name: str) -> str:
    """Why a name is no path below a directory; empty for a safe one."""
    parts = name.split("/")
    if any(part in {"", ".", ".."} for part in parts):
        return "the name has an empty part, `.` or `..`"
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in name):
        return "the name has a control character"
    if "\\" in name:
        return "the name has a backslash"
    if any(_key(part).startswith(_OWN) for part in parts):
        return f"{_OWN} begins the names of the export's own files"
    if any(len(part.encode()) > _MOST_PART for part in parts) or len(name.encode()) > _MOST_PATH:
        return "the name is too long for a file"
    return ""


class TextDirectory:
    """Texts in a directory."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._root = directory.resolve()
        self._numbers = itertools.count()
        # One thread at a time has the lock of SQLite.
        self._names = sqlite3.connect(self._root / _NAMES, check_same_thread=False, isolation_level=None)
        self._names.execute("PRAGMA synchronous = OFF")
        self._names.execute("CREATE TABLE IF NOT EXISTS names (file TEXT PRIMARY KEY, image TEXT) WITHOUT ROWID")

    def put(self, row: CaptionRecord, name: str) -> str:
        if reason := unsafe_reason(name):
            return reason
        if other := self._other_owner(name, _image(row)):
            return f"its file is that of {other}"
        try:
            return self._write(self._root.joinpath(*name.split("/")), str(row.caption))
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return "a part of its path is a file, or its file is a directory"
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return "the name is too long for a file"

    def _other_owner(self, name: str, image: str) -> str:
        key = _key(name)
        self._names.execute("INSERT OR IGNORE INTO names VALUES (?, ?)", (key, image))
        (owner,) = self._names.execute("SELECT image FROM names WHERE file = ?", (key,)).fetchone()
        return "" if owner == image else str(owner)

    def _write(self, path: Path, caption: str) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(self._root):
            return "a link leads out of the directory"
        new = path.with_name(f"{_OWN}-{os.getpid()}-{next(self._numbers)}.new")
        # No link is followed, and a reader never sees half a caption.
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o666)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(f"{caption}\n")
            new.replace(path)
        except OSError:
            new.unlink(missing_ok=True)
            raise
        return ""

    def close(self) -> None:
        """Close the file of names."""
        self._names.close()


@dataclass(frozen=True, slots=True)
class TextBucket:
    """Texts in a bucket, below a prefix."""

    #: Writes a text as an object, by name, text and the URI of the image; the reason why not, or empty.
    write: Callable[[str, str, str], str]
    prefix: str

    def put(self, row: CaptionRecord, name: str) -> str:
        whole = self.prefix + name
        if len(whole.encode()) > _MOST_OBJECT_NAME:
            return "the name is too long for an object"
        return self.write(whole, f"{row.caption}\n", _image(row))


def shown(refused: Refused) -> Sequence[str]:
    """The first refused texts, and how many more there are."""
    more = refused.count - len(refused.examples)
    return [*refused.examples, *([f"and {more:,} more"] if more else [])]
