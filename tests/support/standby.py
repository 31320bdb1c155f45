"""A real hot standby of the run's Postgres, made by pg_basebackup."""

import dataclasses
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from local_emulators import postgres
from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from local_emulators.process import process_environment
from local_emulators.supervisor import Supervisor
from tests.support.services import open_directory


@contextmanager
def open_standby(primary: PostgresServer) -> Iterator[PostgresServer]:
    """Copy the server and follow it; has every row that was committed before."""
    (port,) = free_ports(1)
    account = postgres.server_account()
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        paths = postgres.reachable_paths(directory / "postgres", account)
        cluster = paths.data / "cluster"
        subprocess.run(
            [
                *(
                    str(paths.installation / "bin" / "pg_basebackup"),
                    "--dbname",
                    primary.url,
                    "--pgdata",
                    str(cluster),
                ),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            env=process_environment(),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else [],
            cwd=paths.data,
            check=True,
        )
        settings = ("fsync=off", "max_connections=200")
        command = dataclasses.replace(
            postgres._command(paths.installation, cluster, port, account, settings),
            ready_lines=("database system is ready to accept read-only connections",),
        )
        yield PostgresServer(port, primary.password, supervisor.start(command))
