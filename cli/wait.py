"""`dropline wait`: the captions of objects in the bucket. `drop` and `demo` wait by the same `CaptionWaiter`."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from types import MappingProxyType, TracebackType
from typing import Annotated, Self

import typer

from cli import results
from cli.console import print_error, print_json, print_line
from cli.options import Json, Timeout
from db import filtered, reads
from db.listen import Notice, ReconnectingListener
from db.models import EVERY_TASK
from db.reads import CaptionRecord
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.contract import FilteredNotice, ObjectVersion, TaskRequest, parse_uri
from dropline.settings import DatabaseSettings, Settings, load_settings
from dropline.storage.bucket import Storage
from dropline.storage.rules import ExpectedFilter, LocalRules

_APPLICATION = "dropline-wait"

#: Called with an object version and all its rows when the status of every row is terminal.
OnEnd = Callable[[ObjectVersion, list[CaptionRecord]], None]
#: Called with an object version that the function has filtered.
OnFiltered = Callable[[FilteredNotice], None]
#: The rule that filters an object version by the settings of this machine; None: no rule, or no answer.
Expect = Callable[[ObjectVersion], ExpectedFilter | None]


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

    Listens to Postgres and never polls. Exit code 1: an object ended without a caption. Exit code 5: a rule of the
    settings filters an object.
    """
    settings = load_settings()
    # Without Postgres there is no answer, whatever the bucket says.
    database = reader_settings(settings)
    versions = _versions(settings, uris)
    rows: list[CaptionRecord] = []
    filtered_objects: list[FilteredNotice] = []
    with CaptionWaiter(database, LocalRules(settings).expect) as waiter:
        unfinished = waiter.wait(versions, timeout, lambda _, ended: rows.extend(ended), filtered_objects.append)
    if json:
        print_json(
            [results.document(row) for row in rows]
            + [results.filtered_document(each) for each in filtered_objects]
            + [results.unfinished_document(version, unfinished) for version in unfinished]
        )
    elif len(versions) == 1:
        _print_single(rows)
    else:
        results.print_rows(rows)
    if not json:
        results.print_model_notice(rows)
    results.print_filtered(filtered_objects)
    results.print_unfinished(unfinished, timeout)
    raise typer.Exit(results.exit_code(rows, unfinished, filtered_objects))


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

    def __init__(self, settings: DatabaseSettings, expect: Expect = lambda _version: None) -> None:
        self._expect = expect
        self._database = Database.connect(settings, _APPLICATION, READER, connections=1)
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
        self,
        versions: Collection[ObjectVersion],
        timeout_s: float,
        on_end: OnEnd,
        on_filtered: OnFiltered = lambda _filtered: None,
        *,
        tasks: Mapping[ObjectVersion, TaskRequest] = MappingProxyType({}),
    ) -> dict[ObjectVersion, list[CaptionRecord]]:
        """Wait until every row of these versions has a terminal status, or the function has filtered the version.

        Of a version in `tasks`, the row of that task alone counts. Returns the unfinished versions after
        `timeout_s` seconds, each with the rows.

        Raises:
            DatabaseUnavailable: the connection to Postgres was lost, and so were the attempts to reconnect.
        """
        pending = _PendingVersions(self._database, set(versions), self._expect, tasks)
        if pending.versions:
            with closing(self._listener.follow(pending, timeout_s)) as results_in_order:
                for result in results_in_order:
                    if isinstance(result, FilteredNotice):
                        on_filtered(result)
                    else:
                        on_end(*result)
                    if not pending.versions:
                        break
        return pending.read_last_time(on_end)


_Ended = tuple[ObjectVersion, list[CaptionRecord]]


class _PendingVersions:
    """Object versions with rows not all terminal yet; reads the rows for a listener."""

    def __init__(
        self,
        database: Database,
        versions: set[ObjectVersion],
        expect: Expect,
        tasks: Mapping[ObjectVersion, TaskRequest],
    ) -> None:
        self._database = database
        self.versions = versions
        self._expect = expect
        self._tasks = tasks

    def catch_up(self) -> Iterator[_Ended | FilteredNotice]:
        """Read every pending version; yields the ended versions, each with the rows, and the filtered ones."""
        for version in list(self.versions):
            rows = self._read(version)
            if version not in self.versions:
                yield version, rows
            elif not rows and (found := self._filtered_before(version)):
                self.versions.discard(version)
                yield found

    def read(self, notice: Notice) -> Iterator[_Ended | FilteredNotice]:
        """Read the version of a notice; yields the version if every row has ended or the version is filtered."""
        if isinstance(notice, FilteredNotice):
            if notice.version in self.versions and not self._read(notice.version):
                self.versions.discard(notice.version)
                yield notice
            return
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

    def _filtered_before(self, version: ObjectVersion) -> FilteredNotice | None:
        """A version that was filtered before this connection, when there was no listener.

        The counts have no object names. So two things must agree: the settings of this machine filter the version,
        and the function has counted an event of the bucket under the same rule since the version was made.
        """
        expected = self._expect(version)
        if expected is None:
            return None
        with self._database.transaction() as connection:
            counted = filtered.was_counted(connection, version.bucket, expected.reason, expected.created_at)
        return FilteredNotice(version, expected.reason, expected.reason.setting) if counted else None

    def _read(self, version: ObjectVersion) -> list[CaptionRecord]:
        """The rows of a version, which is no longer pending if every row is terminal."""
        with self._database.transaction() as connection:
            rows = reads.rows_of_object(connection, version.bucket, version.name, version.generation)
        if (task := self._tasks.get(version)) is not None:
            rows = [row for row in rows if row.task in (str(task), EVERY_TASK)]
        if rows and all(row.is_terminal for row in rows):
            self.versions.discard(version)
        return rows
