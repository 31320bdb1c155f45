"""Opens every connection to Postgres: with one reading of the URL and the same session settings, checked once.

A database or a login may have other defaults (`ALTER DATABASE … SET`, `ALTER ROLE … SET`). Dropline sets each
setting with an effect on statements or values.

A pooler such as PgBouncer in transaction mode gives every transaction another session of Postgres. Settings of a
session and prepared statements do not survive there, so `BEGIN` and the settings of the transaction travel in one
message, and no statement is prepared.
"""

import time
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.abc import PQGen

from db.conninfo import parse_conninfo
from db.start_check import Needs, check_start
from dropline.errors import SettingsError
from dropline.settings import DatabaseSettings, require

_T = TypeVar("_T")

WRITER_URL = "DROPLINE_DATABASE__URL"

#: Kept unless the URL has other values: a connection to a lost server ends within seconds.
_KEEPALIVES = {"keepalives_idle": "30", "tcp_user_timeout": "10000"}

_PINNED = {
    # psycopg reads times, intervals and bytes in these forms alone.
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    # The statements of `db.object_rows`, `db.claims` and `db.attempts` are written for the level.
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "idle_in_transaction_session_timeout": "60000",
    # A listener is idle for as long as no row changes.
    "idle_session_timeout": "0",
}
#: Since Postgres 17.
_PINNED_17 = {"transaction_timeout": "0"}

# A pooler reports the pooler's process id, not the id of the Postgres session.
_FACTS = """
    SELECT pg_backend_pid(), current_setting('synchronous_commit'),
           (SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace
            WHERE extname = 'pg_trgm' AND nspname <> 'public')
"""


@dataclass(frozen=True, slots=True)
class _Facts:
    backend_pid: int
    synchronous_commit: str
    #: Schema of the extension pg_trgm, where it is not `public`.
    trigram_schema: str | None


class _Connection(psycopg.Connection[Any]):
    """A connection on which a wait can be bounded."""

    #: Longest wait for an answer, in seconds; None: as long as the server is connected.
    answer_s: float | None = None

    def wait(self, gen: PQGen[_T], *arguments: Any, **options: Any) -> _T:
        """Wait, as every call of psycopg does; after `answer_s` seconds the connection is closed.

        Raises:
            psycopg.OperationalError: no answer in time.
        """
        return super().wait(
            gen if self.answer_s is None else self._bounded(gen, self.answer_s), *arguments, **options
        )

    def _bounded(self, gen: PQGen[_T], answer_s: float) -> PQGen[_T]:
        end = time.monotonic() + answer_s
        try:
            wanted = next(gen)
            while True:
                # Not ready, several times a second, between two arrivals.
                ready = yield wanted
                if not ready and time.monotonic() > end:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {answer_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as ended:
            result: _T = ended.value
            return result


class Connector:
    """Opens connections of a login to a database. Threads may share the object."""

    def __init__(
        self,
        settings: DatabaseSettings,
        application_name: str,
        needs: Needs | None = None,
        *,
        read_only: bool = False,
        is_bounded: bool = False,
    ) -> None:
        """A connector without a connection.

        Args:
            settings: URL and time limits.
            application_name: name of the connections in `pg_stat_activity`.
            needs: the rights the process needs; checked on the first connection, with the encoding and the
                revision of the schema. None: no check.
            read_only: transactions are read-only by default.
            is_bounded: no call waits for longer than a second beyond the timeout of statements, also when the
                server is frozen.

        Raises:
            SettingsError: no URL is set, or libpq refuses the URL.
        """
        self._parameters: dict[str, Any] = {
            **_KEEPALIVES,
            **parse_conninfo(require(settings.url, WRITER_URL), WRITER_URL),
            "application_name": application_name,
            "connect_timeout": settings.connect_timeout_s,
            "client_encoding": "utf8",
        }
        timeout = str(settings.statement_timeout_ms)
        self._pinned = {**_PINNED, "statement_timeout": timeout, "lock_timeout": timeout}
        if read_only:
            self._pinned["default_transaction_read_only"] = "on"
        self._answer_s = settings.statement_timeout_ms / 1000 + 1 if is_bounded else None
        self._pooler = settings.pooler
        self._needs = needs
        #: True if a pooler in transaction mode is between; known after the first connection.
        self.is_pooled = False
        #: Statement with all settings of a transaction; known after the first connection.
        self.local_settings = ""

    def open(self) -> psycopg.Connection[Any]:
        """A new connection in autocommit mode, with the settings of the session unless a pooler is between.

        Raises:
            psycopg.Error: Postgres cannot be reached, or refuses the login.
            SettingsError, AccessDenied, SchemaOutdated: the check failed; the next call checks again.
        """
        connection = _Connection.connect(**self._parameters, autocommit=True)
        connection.answer_s = self._answer_s
        try:
            self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def open_direct(self, purpose: str) -> psycopg.Connection[Any]:
        """Like `open`, for LISTEN and session locks, which a pooler in transaction mode cannot carry.

        Raises:
            SettingsError: a pooler is between.
        """
        connection = self.open()
        if self.is_pooled:
            connection.close()
            raise SettingsError(
                f"{purpose} needs a connection to Postgres itself, and the URL leads to a pooler (PgBouncer): set "
                "DATABASE_URL, or DROPLINE_DATABASE__URL, to Postgres's own address; for a pooler in session mode "
                "set DROPLINE_DATABASE__POOLER=session"
            )
        return connection

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(_FACTS).fetchone()
        assert row is not None
        facts = _Facts(*row)
        is_other = facts.backend_pid != connection.info.backend_pid
        self.is_pooled = self._pooler == "transaction" or (self._pooler == "auto" and is_other)
        pinned = self._pinned | _conditional(facts, connection.info.server_version)
        self.local_settings = _set_config(pinned, connection, local=True)
        if self.is_pooled:
            connection.prepare_threshold = None
        else:
            connection.execute(_set_config(pinned, connection, local=False).encode())
        # Read once: another thread may end its check in between.
        needs = self._needs
        if needs is not None:
            check_start(connection, needs)
            self._needs = None


def _conditional(facts: _Facts, server_version: int) -> dict[str, str]:
    schemas = ["public", *([facts.trigram_schema] if facts.trigram_schema else [])]
    pinned = {"search_path": ", ".join(schemas)}
    if facts.synchronous_commit == "off":
        # An event is acknowledged after the commit of its row, so the row must outlive a crash of the server.
        pinned["synchronous_commit"] = "on"
    return pinned | (_PINNED_17 if server_version >= 170_000 else {})


def _set_config(pinned: dict[str, str], connection: psycopg.Connection[Any], *, local: bool) -> str:
    calls = (
        sql.SQL("set_config({}, {}, {})").format(sql.Literal(name), sql.Literal(value), sql.Literal(local))
        for name, value in pinned.items()
    )
    return sql.SQL("SELECT {}").format(sql.SQL(", ").join(calls)).as_string(connection)
