"""Notifications of rows made due by a person's edit, over a separate connection; without polling.

Only edits and reverts send notifications (migration 0016), never a claim: a NOTIFY takes a lock for the
whole server.
"""

import psycopg

from db.connections import Connector
from db.errors import named_error
from dropline.contract import DUE_CHANNEL
from dropline.settings import DatabaseSettings


class DueSignals:
    """A listening connection for an event loop. For a single thread."""

    def __init__(self, settings: DatabaseSettings, application_name: str) -> None:
        """Not connected yet.

        Raises:
            SettingsError: no URL is set, or libpq refuses the URL.
        """
        self._connector = Connector(settings, application_name, is_bounded=True)
        self._connection: psycopg.Connection | None = None

    def connect(self) -> int:
        """Listen from now on, over a new connection; its descriptor, readable when a signal has arrived.

        Raises:
            SettingsError: the URL leads to a pooler in transaction mode.
            DatabaseUnavailable: Postgres cannot be reached, or does not take a LISTEN (a standby).
        """
        self.close()
        try:
            self._connection = self._connector.open_direct("LISTEN for edits by SQL")
            self._connection.execute(f"LISTEN {DUE_CHANNEL}")
            return self._connection.fileno()
        except psycopg.Error as error:
            self.close()
            raise named_error(error) from error

    def have_arrived(self) -> bool:
        """Take the signals so far, without waiting; True with a signal.

        Raises:
            DatabaseUnavailable: the connection is lost.
        """
        assert self._connection is not None, "connected before"
        try:
            return bool(list(self._connection.notifies(timeout=0)))
        except psycopg.Error as error:
            self.close()
            raise named_error(error) from error

    def close(self) -> None:
        """Close an open connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
