"""A real PgBouncer in front of the run's Postgres; tests skip where the program is not installed."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from local_emulators.ports import HOST, free_ports
from local_emulators.postgres import SUPERUSER, PostgresServer, server_account
from local_emulators.process import Command, process_environment
from local_emulators.supervisor import Supervisor
from tests.support.services import open_directory

#: Sessions of Postgres per database: fewer than clients, so that clients take turns.
_SESSIONS = 3


@contextmanager
def open_pgbouncer(server: PostgresServer, pool_mode: str) -> Iterator[int]:
    """Run PgBouncer; yields its port. Every database of the server is reached through it by the same name."""
    program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("pgbouncer is not installed: apt-get install pgbouncer")
    (port,) = free_ports(1)
    account = server_account()
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        users = directory / "users"
        users.write_text(f'"{SUPERUSER}" "{server.password}"\n')
        configuration = directory / "pgbouncer.ini"
        # The defaults of Debian otherwise: startup parameters such as `options` are refused.
        configuration.write_text(
            f"[databases]\n* = host={HOST} port={server.port}\n"
            f"[pgbouncer]\nlisten_addr = {HOST}\nlisten_port = {port}\nunix_socket_dir =\n"
            f"auth_type = scram-sha-256\nauth_file = {users}\n"
            f"pool_mode = {pool_mode}\ndefault_pool_size = {_SESSIONS}\nmax_client_conn = 200\n"
        )
        supervisor.start(
            Command(
                name="pgbouncer",
                argv=(program, str(configuration)),
                ready_lines=("process up",),
                environment=process_environment(),
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                cwd=directory,
            )
        )
        yield port
