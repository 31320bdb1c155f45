"""Notifications of row changes by LISTEN, without polling."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from db.session import libpq_url
from dropline.contract import NOTIFY_CHANNEL, ChangeNotice, Status
from dropline.errors import DatabaseUnavailable
from dropline.settings import DatabaseSettings, require


class Listener:
    """A connection that receives a notification of every change committed after its LISTEN."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def notices(self, timeout_s: float | None = None) -> Iterator[ChangeNotice]:
        """Changes in the order of their commits. Ends after `timeout_s` seconds in all; None: never.

        Raises:
            DatabaseUnavailable: the connection broke; changes from then on must be read from the table.
        """
        try:
            for notify in self._connection.notifies(timeout=timeout_s):
                yield parse_notice(notify.payload)
        except psycopg.OperationalError as error:
            raise DatabaseUnavailable(f"lost the connection to Postgres while listening: {error}") from error


@contextmanager
def listening(settings: DatabaseSettings, application_name: str) -> Iterator[Listener]:
    """Listen from now on. Read the table inside the block, not before, and no change is missed.

    Raises:
        DatabaseUnavailable: Postgres cannot be reached.
    """
    url = libpq_url(require(settings.url, "DROPLINE_DATABASE__URL"))
    try:
        connection = psycopg.connect(
            url,
            autocommit=True,
            application_name=application_name,
            connect_timeout=settings.connect_timeout_s,
        )
    except psycopg.OperationalError as error:
        raise DatabaseUnavailable(f"cannot reach Postgres to listen: {error}") from error
    with connection:
        connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
        yield Listener(connection)


def parse_notice(payload: str) -> ChangeNotice:
    """The change described by the JSON payload of one notification."""
    fields = json.loads(payload)
    return ChangeNotice(
        id=int(fields["id"]),
        bucket=fields["bucket"],
        object_name=fields["object_name"],
        generation=int(fields["generation"]),
        task=fields["task"],
        status=Status(fields["status"]),
        metadata_written=bool(fields["metadata_written"]),
    )
