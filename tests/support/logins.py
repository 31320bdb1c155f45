"""Logins with the roles of Dropline, on the test's database."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from local_emulators.postgres import PostgresServer

#: Opens a connection as a role.
Login = Callable[[str], psycopg.Connection[TupleRow]]


@contextmanager
def logins(server: PostgresServer, database_url: str) -> Iterator[Login]:
    """A function that opens connections to the test's database with a login of one of Dropline's roles."""
    opened: list[psycopg.Connection[TupleRow]] = []

    def connect(role: str) -> psycopg.Connection[TupleRow]:
        statement = sql.SQL("ALTER ROLE {} LOGIN PASSWORD 'test'").format(sql.Identifier(role))
        with psycopg.connect(server.url) as admin:
            admin.execute(statement)
        name = database_url.rpartition("/")[2]
        opened.append(psycopg.connect(server.url_for(name, role, "test"), autocommit=True))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()
