"""Notifications of row changes by LISTEN, without polling."""

import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import TracebackType
from typing import Protocol, Self, TypeVar

import psycopg

from db.connections import Connector
from db.errors import named_error, one_line
from db.filtered import parse_filtered
from db.start_check import READER
from dropline.contract import FILTERED_CHANNEL, NOTIFY_CHANNEL, ChangeNotice, FilteredNotice, Status
from dropline.errors import DatabaseUnavailable
from dropline.settings import DatabaseSettings

#: Pauses before the attempts to reconnect to Postgres, in seconds.
RECONNECT_PAUSES_S = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 10.0)

Notice = ChangeNotice | FilteredNotice
Read_co = TypeVar("Read_co", covariant=True)


class Listener:
    """A connection with a notification of every change and filtered object committed after the LISTEN."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def fileno(self) -> int:
        """The descriptor of the connection, which is readable when notifications arrive: for an event loop."""
        return self._connection.fileno()

    def pending(self) -> list[Notice]:
        """The changes and filtered objects so far, without waiting; raises as `all_notices`."""
        return list(self.all_notices(timeout_s=0))

    def notices(self, timeout_s: float | None = None) -> Generator[ChangeNotice, None, None]:
        """Changes alone, from `all_notices`."""
        for notice in self.all_notices(timeout_s):
            if isinstance(notice, ChangeNotice):
                yield notice

    def all_notices(self, timeout_s: float | None = None) -> Generator[Notice, None, None]:
        """Changes and filtered objects in the order of their commits.

        Ends after `timeout_s` seconds in all; None: never.

        Raises:
            DatabaseUnavailable: the connection broke; changes from then on must be read from the table.
        """
        try:
            for notify in self._connection.notifies(timeout=timeout_s):
                filtered = notify.channel == FILTERED_CHANNEL
                try:
                    notice: Notice = parse_filtered(notify.payload) if filtered else parse_notice(notify.payload)
                except ValueError:
                    continue  # every login of the database may send a notification on the channels
                yield notice
        except psycopg.Error as error:
            raise DatabaseUnavailable(
                f"lost the connection to Postgres while listening: {one_line(error)}"
            ) from error


@contextmanager
def listening(
    settings: DatabaseSettings, application_name: str, *, is_bounded: bool = False
) -> Iterator[Listener]:
    """Listen from now on. Read the table inside the block, not before, and no change is missed.

    With `is_bounded` a frozen server is an error too; then take notifications by `Listener.pending` alone.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached, or does not take a LISTEN (a standby).
        SettingsError: libpq refuses the URL, or the URL leads to a pooler in transaction mode.
        SchemaOutdated, AccessDenied: the wrong database or login.
    """
    connector = Connector(settings, application_name, READER, is_bounded=is_bounded)
    with _errors_named():
        connection = connector.open_direct("LISTEN (`wait`, `watch`)")
    with connection:
        with _errors_named():
            connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
            connection.execute(f"LISTEN {FILTERED_CHANNEL}")
        yield Listener(connection)


@contextmanager
def _errors_named() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise named_error(error) from error


class ChangeReader(Protocol[Read_co]):
    """Reads the table for a `ReconnectingListener`; both methods may raise DatabaseUnavailable."""

    def catch_up(self) -> Iterable[Read_co]:
        """Read the changes before the connection, which have no notification."""

    def read(self, notice: Notice) -> Iterable[Read_co]:
        """Read the row of a notification; a filtered object has no row."""


class ReconnectingListener:
    """Listens to row changes from `__enter__` on, and connects again after a lost connection.

    Enter the listener before the changes are caused: earlier changes are found by `ChangeReader.catch_up` alone.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        application_name: str,
        report: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self._settings = settings
        self._application_name = application_name
        #: Called at the start of each connection and at each loss, with a message for people.
        self._report = report
        self._connection = ExitStack()
        self._listener: Listener | None = None

    def __enter__(self) -> Self:
        """Start to listen.

        Raises:
            DatabaseUnavailable: Postgres cannot be reached; the first connection is attempted once.
        """
        self._connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()

    def follow(
        self, reader: ChangeReader[Read_co], timeout_s: float | None = None
    ) -> Generator[Read_co, None, None]:
        """The results of `reader`: after each connection, and after each notification.

        Ends after `timeout_s` seconds in all; None: never. Close the generator before leaving the listener.

        Raises:
            DatabaseUnavailable: Postgres did not come back within the pauses of `RECONNECT_PAUSES_S`.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        pauses = iter(RECONNECT_PAUSES_S)
        while True:
            try:
                listener = self._connect()
                self._report("listening")
                yield from reader.catch_up()
                pauses = iter(RECONNECT_PAUSES_S)
                # A single generator per connection: a second would lack the notifications fetched by the first.
                # Closed before the connection: the generator holds the connection's lock.
                with closing(listener.all_notices(_remaining_s(deadline))) as notices:
                    for notice in notices:
                        yield from reader.read(notice)
            except DatabaseUnavailable as lost:
                self._disconnect()
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise
                self._report(f"{lost}; trying again in {pause_s:g} s")
                remaining_s = _remaining_s(deadline)
                time.sleep(pause_s if remaining_s is None else min(pause_s, remaining_s))
            else:
                return

    def _connect(self) -> Listener:
        if self._listener is None:
            self._listener = self._connection.enter_context(listening(self._settings, self._application_name))
        return self._listener

    def _disconnect(self) -> None:
        self._listener = None
        self._connection.close()


def _remaining_s(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def parse_notice(payload: str) -> ChangeNotice:
    """The change described by the JSON payload of a notification.

    Raises:
        ValueError: the payload is another sender's.
    """
    try:
        fields = json.loads(payload)
        return ChangeNotice(
            id=_row_number(fields["id"]),
            bucket=str(fields["bucket"]),
            object_name=str(fields["object_name"]),
            generation=_row_number(fields["generation"]),
            task=str(fields["task"]),
            status=Status(fields["status"]),
            metadata_written=bool(fields["metadata_written"]),
            changed_in=_row_number(fields.get("changed_in", 0)),
        )
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a change of a row: {payload[:100]!r}") from error


def _row_number(value: object) -> int:
    """A number for a column of type bigint; any other would end the statement of the read."""
    number = int(str(value))
    if not 0 <= number < 2**63:
        raise ValueError(f"not a number of a row: {str(value)[:40]}")
    return number
