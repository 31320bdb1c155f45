"""The objects of a backfill, with the cursor behind each: a listing of a bucket, or a list of names."""

import csv
import hashlib
import itertools
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from dropline.contract import ObjectFacts, ObjectVersion, parse_uri
from dropline.errors import ClientError
from dropline.storage.listing import ListedObject, Listing
from dropline.storage.name_ranges import NameRange, after_prefix, plan_ranges
from operations.backfill_request import Source
from operations.read_ahead import read_ahead

#: Listings at a time, and pages in memory.
_THREADS = 8
_PAGES = 12
#: Lines of a list looked up together, and requests at a time.
_LINES = 400
_REQUESTS = 16
_HEADERS = frozenset({"name", "object", "object_name", "uri", "url"})


@dataclass(frozen=True, slots=True)
class Item:
    """An object of the source."""

    #: Where the source continues behind the object.
    position: str | int
    #: None: a name of the list the bucket does not have.
    found: ListedObject | None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Items of a part of the source, in order."""

    part: int
    items: list[Item]
    #: The part has no items behind these.
    is_last: bool


class Objects(Protocol):
    """The objects still to be read by a backfill."""

    def stretches(self) -> Generator[Stretch, None, None]:
        """The items in order, as far as the parts have an order; raises the errors of Cloud Storage."""

    def advance(self, part: int, position: str | int | None, *, is_done: bool) -> None:
        """Set the cursor behind an item."""

    @property
    def cursor(self) -> dict[str, Any]:
        """The cursor, for Postgres; never empty."""

    @property
    def part_read(self) -> float:
        """An estimate from 0 to 1."""


class BucketObjects:
    """The objects of a listing, in ranges of names listed at the same time."""

    def __init__(self, listing: Listing, source: Source, cursor: dict[str, Any]) -> None:
        """Continue at a cursor; an empty cursor is the beginning. Raises the errors of `Listing.names_from`."""
        self._listing = listing
        self._source = source
        saved = cursor.get("ranges")
        self._ranges = [NameRange.from_list(each) for each in saved] if saved else self._plan()

    def _plan(self) -> list[NameRange]:
        end = after_prefix(self._source.prefix)
        return plan_ranges(
            self._source.prefix, lambda start: self._listing.names_from(self._source.bucket, start, end)
        )

    def stretches(self) -> Generator[Stretch, None, None]:
        """See `Objects`."""
        left = [number for number, each in enumerate(self._ranges) if not each.is_done]
        pages = [self._pages_of(self._ranges[number]) for number in left]
        with closing(read_ahead(pages, threads=_THREADS, parts=_PAGES)) as parts:
            for part in parts:
                items = [Item(each.version.name, each) for each in part.value or ()]
                yield Stretch(left[part.source], items, part.value is None)

    def _pages_of(self, names: NameRange) -> Callable[[], Iterator[list[ListedObject]]]:
        return lambda: self._listing.pages(self._source.bucket, names, self._source.pattern)

    def advance(self, part: int, position: str | int | None, *, is_done: bool) -> None:
        """See `Objects`."""
        assert not isinstance(position, int)
        self._ranges[part] = self._ranges[part].advanced(position, is_done=is_done)

    @property
    def cursor(self) -> dict[str, Any]:
        """See `Objects`."""
        return {"ranges": [each.as_list() for each in self._ranges]}

    @property
    def part_read(self) -> float:
        """See `Objects`."""
        return sum(each.part_read() for each in self._ranges) / len(self._ranges)


class ListedNames:
    """The objects of a file: the first column has a name, or a URI, with `#` and a generation or without."""

    def __init__(
        self,
        listing: Listing,
        source: Source,
        path: Path,
        cursor: dict[str, Any],
        with_rows: Callable[[str, set[ObjectVersion]], set[ObjectVersion]],
    ) -> None:
        """Continue at a cursor; an empty cursor is the beginning.

        Args:
            listing: of the bucket.
            source: bucket, and prefix or glob.
            path: of the file.
            cursor: from the property `cursor`.
            with_rows: the object versions with a row, among those of a bucket.

        Raises:
            ClientError: the file cannot be read.
        """
        self._listing = listing
        self._source = source
        self._path = path
        self._with_rows = with_rows
        self._line = int(cursor.get("line", 0))
        self._lines = digest_of(path)[1]

    def stretches(self) -> Generator[Stretch, None, None]:
        """See `Objects`."""
        with self._path.open(newline="", encoding="utf-8-sig") as file, ThreadPoolExecutor(_REQUESTS) as threads:
            rows = itertools.islice(enumerate(self._rows(file), 1), self._line, None)
            while rows_now := list(itertools.islice(rows, _LINES)):
                wanted = [(line, row[0].strip()) for line, row in rows_now if row and row[0].strip()]
                lines = [each for each in wanted if each[0] > 1 or each[1].lower() not in _HEADERS]
                yield Stretch(0, self._items(lines, threads), is_last=False)
        yield Stretch(0, [], is_last=True)

    def _rows(self, file: TextIO) -> Iterator[list[str]]:
        try:
            yield from csv.reader(file)
        except (UnicodeError, csv.Error) as error:
            raise ClientError(f"{self._path} is no CSV file in UTF-8 ({error}); save it as one") from None

    def _items(self, lines: list[tuple[int, str]], threads: ThreadPoolExecutor) -> list[Item]:
        named = [self._parse(line, text) for line, text in lines]
        exact = {each for each in named if isinstance(each, ObjectVersion) and _is_possible(each)}
        known = self._with_rows(self._source.bucket, exact) if exact else set()
        found = threads.map(lambda each: self._find(each, is_known=each in known), named)
        return [Item(line, each) for (line, _), each in zip(lines, found, strict=True)]

    def _parse(self, line: int, text: str) -> ObjectVersion | str:
        """The object version of a line, or only its name."""
        if not text.startswith("gs://"):
            return text
        bucket, name, generation = parse_uri(text)
        if bucket != self._source.bucket:
            raise ClientError(
                f"line {line} of {self._path} names an object of gs://{bucket}, and the backfill is one of "
                f"gs://{self._source.bucket}; split the list by bucket"
            )
        return name if generation is None else ObjectVersion(bucket, name, generation)

    def _find(self, named: ObjectVersion | str, *, is_known: bool) -> ListedObject | None:
        if isinstance(named, str):
            return self._listing.find(self._source.bucket, named)
        # A row of a generation unknown to the bucket would supersede the rows of the real generation.
        if is_known or (_is_possible(named) and self._listing.has_generation(named)):
            return ListedObject(named, ObjectFacts())
        return None

    def advance(self, part: int, position: str | int | None, *, is_done: bool) -> None:  # noqa: ARG002
        """See `Objects`."""
        assert not isinstance(position, str)
        self._line = self._line if position is None else position

    @property
    def cursor(self) -> dict[str, Any]:
        """See `Objects`."""
        return {"line": self._line}

    @property
    def part_read(self) -> float:
        """See `Objects`."""
        return min(1.0, self._line / max(1, self._lines))


def _is_possible(version: ObjectVersion) -> bool:
    """Whether Cloud Storage can have the version, and Postgres can look for the version."""
    return 0 < version.generation < 2**63 and "\x00" not in version.name


def digest_of(path: Path) -> tuple[str, int]:
    """SHA-256 and number of lines of a file.

    Raises:
        ClientError: the file cannot be read.
    """
    digest, lines = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
                lines += block.count(b"\n")
    except OSError as error:
        raise ClientError(f"{path} cannot be read: {error.strerror or error}") from None
    return digest.hexdigest(), lines + 1
