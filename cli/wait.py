"""`dropline wait`: the captions of objects in the bucket. `drop` and `demo` wait by the same `CaptionWaiter`."""

from collections.abc import Callable, Collection, Iterator
from contextlib import closing
from types import TracebackType
from typing import Annotated, Self

import typer

from cli import results
from cli.console import print_error, print_json, print_line
from cli.options import Json, Timeout, parse_uri
from db import reads
from db.listen import ReconnectingListener
from db.reads import CaptionRecord
from db.session import Database, reader_settings
from dropline.contract import ChangeNotice, ObjectVersion
from dropline.settings import DatabaseSettings, Settings, load_settings
from dropline.storage.bucket import Storage

_APPLICATION = "dropline-wait"

#: Called with an object version and all its rows when the status of every row is terminal.
OnEnd = Callable[[ObjectVersion, list[CaptionRecord]], None]


def wait(
    uris: Annotated[
        list[str],
        typer.Argument(
            metavar="gs://BUCKET/NAME[#GENERATION]…",
            help="Objects. Without a generation: the live generation of the bucket.",
        ),
    ],
    timeout: Timeout = 300,
    json: Json = False,
) -> None:
    """Wait for objects that are in the bucket already, and print their captions.

    Listens to Postgres and never polls. Exit code 1: an object ended without a caption.
    """
    settings = load_settings()
    versions = _versions(settings, uris)
    rows: list[CaptionRecord] = []
    with CaptionWaiter(reader_settings(settings)) as waiter:
        unfinished = waiter.wait(versions, timeout, lambda _, ended: rows.extend(ended))
    if json:
        print_json(
            [results.document(row) for row in rows]
            + [results.unfinished_document(version, unfinished) for version in unfinished]
        )
    elif len(versions) == 1:
        _print_single(rows)
    else:
        results.print_rows(rows)
    results.print_unfinished(unfinished, timeout)
    raise typer.Exit(results.exit_code(rows, unfinished))


def _versions(settings: Settings, uris: list[str]) -> list[ObjectVersion]:
    storage = None
    versions = []
    for bucket, name, generation in [parse_uri(uri) for uri in uris]:
        if generation is None:
            # Connected on first use: an object with a generation needs Postgres alone.
            storage = storage or Storage.connect(settings)
            versions.append(storage.live_version(bucket, name))
        else:
            versions.append(ObjectVersion(bucket, name, generation))
    return versions


def _print_single(rows: list[CaptionRecord]) -> None:
    """The caption alone of an object with one captioned row; else an error per row."""
    if len(rows) == 1 and rows[0].caption is not None:
        print_line(rows[0].caption)
        return
    for row in rows:
        reason = f" ({results.caption_or_error(row)})" if row.error_code else ""
        print_error(f"{row.version.uri} is {row.status}{reason}")


class CaptionWaiter:
    """Waits for the captions of object versions. Enter the waiter before the uploads begin."""

    def __init__(self, settings: DatabaseSettings) -> None:
        self._database = Database.connect(settings, _APPLICATION, connections=1)
        self._listener = ReconnectingListener(settings, _APPLICATION)

    def __enter__(self) -> Self:
        """Start to listen.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached.
        """
        self._listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.__exit__(kind, error, trace)
        self._database.close()

    def wait(
        self, versions: Collection[ObjectVersion], timeout_s: float, on_end: OnEnd
    ) -> dict[ObjectVersion, list[CaptionRecord]]:
        """Wait until every row of these versions has a terminal status.

        Returns the unfinished versions after `timeout_s` seconds, each with the rows.

        Raises:
            DatabaseUnavailable: the connection to Postgres was lost, and so were the attempts to reconnect.
        """
        pending = _PendingVersions(self._database, set(versions))
        if pending.versions:
            with closing(self._listener.follow(pending, timeout_s)) as ended:
                for version, rows in ended:
                    on_end(version, rows)
                    if not pending.versions:
                        break
        return pending.read_last_time(on_end)


class _PendingVersions:
    """Object versions whose rows are not all terminal yet; reads the rows for a listener."""

    def __init__(self, database: Database, versions: set[ObjectVersion]) -> None:
        self._database = database
        self.versions = versions

    def catch_up(self) -> Iterator[tuple[ObjectVersion, list[CaptionRecord]]]:
        """Read every pending version; yields the ended versions, each with the rows."""
        for version in list(self.versions):
            rows = self._read(version)
            if version not in self.versions:
                yield version, rows

    def read(self, notice: ChangeNotice) -> Iterator[tuple[ObjectVersion, list[CaptionRecord]]]:
        """Read the version of a row with a terminal status; yields the version if every row has ended."""
        version = ObjectVersion(notice.bucket, notice.object_name, notice.generation)
        if version in self.versions and notice.status.is_terminal:
            rows = self._read(version)
            if version not in self.versions:
                yield version, rows

    def read_last_time(self, on_end: OnEnd) -> dict[ObjectVersion, list[CaptionRecord]]:
        """Read every pending version once more; returns the unfinished versions, each with the rows."""
        unfinished = {}
        for version in list(self.versions):
            rows = self._read(version)
            if version in self.versions:
                unfinished[version] = rows
            else:
                on_end(version, rows)
        return unfinished

    def _read(self, version: ObjectVersion) -> list[CaptionRecord]:
        """The rows of a version, which is no longer pending if every row is terminal."""
        with self._database.transaction() as connection:
            rows = reads.rows_of_object(connection, version.bucket, version.name, version.generation)
        if rows and all(row.is_terminal for row in rows):
            self.versions.discard(version)
        return rows
