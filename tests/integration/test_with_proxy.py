"""A job and its proxy end in every case: real processes stand for the proxy and the command."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread

import pytest

from local_emulators.ports import free_ports
from local_emulators.postgres import PostgresServer
from tests.support.processes import ProcessMark, linux_only

pytestmark = linux_only

#: For a loaded machine.
DEADLINE_S = 60.0

_PROXY = """
import http.server, signal, sys
behaviour, port = sys.argv[1:]
if behaviour == "broken":
    sys.exit(3)
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if behaviour == "unready" else 200)
        self.end_headers()
    def log_message(self, *_):
        pass
if behaviour == "announces":
    print("announced", flush=True)
if behaviour in ("silent", "announces"):
    signal.pause()
http.server.HTTPServer(("127.0.0.1", int(port)), Ready).serve_forever()
"""
_COMMAND = """
import os, signal, sys
behaviour, *arguments = sys.argv[1:]
def finish(*_):
    print("cancelled", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, signal.SIG_IGN if behaviour == "deaf" else finish)
print(behaviour, *arguments, flush=True)
if behaviour == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
while behaviour in ("waits", "deaf"):
    signal.pause()
sys.exit(int(behaviour))
"""


class Job:
    """A running job, and the processes that it started."""

    def __init__(self, process: "subprocess.Popen[str]", mark: ProcessMark) -> None:
        self.process, self._mark = process, mark

    def started(self) -> str:
        """The first line of the command."""
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self, name: str) -> None:
        """Kill the proxy or the command, as the kernel does when memory is short."""
        (pid,) = [pid for pid, line in self._mark.processes().items() if f"{name}.py" in line and pid != self.pid]
        os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The process that a container runs as its first."""
        return self.process.pid

    def end(self) -> tuple[int, str]:
        """The exit code and the errors; no process is left."""
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        assert self._mark.wait_until_gone(DEADLINE_S) == {}
        return self.process.returncode, errors


@contextmanager
def running(
    directory: Path, proxy: str, *command: str, options: tuple[str, ...] = (), **variables: str
) -> Iterator[Job]:
    """Start a job whose proxy and command behave as told."""
    for name, text in (("proxy", _PROXY), ("command", _COMMAND)):
        (directory / f"{name}.py").write_text(text)
    (port,) = free_ports(1)
    mark = ProcessMark()
    start = [sys.executable, "-m", "db.with_proxy", f"--startup=http://127.0.0.1:{port}/startup", *options]
    beside = [sys.executable, str(directory / "proxy.py"), proxy, str(port)]
    main = [sys.executable, str(directory / "command.py"), *command]
    if command == ("missing",):
        main = [str(directory / "missing")]
    if proxy == "missing":
        beside = [str(directory / "missing")]
    with subprocess.Popen(
        [*start, "--", *beside, "--", *main],
        env=mark.environment | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            yield Job(process, mark)
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("command", "code"),
    [(["0"], 0), (["3", "--all", "--", "--prefix=in my/"], 3), (["killed"], 128 + signal.SIGKILL)],
)
def test_the_job_ends_as_its_command_does(tmp_path: Path, command: list[str], code: int) -> None:
    """The command gets its arguments, and the job ends with the command's exit code, also after SIGKILL."""
    with running(tmp_path, "ready", *command) as job:
        assert job.started() == " ".join(command)
        assert job.end()[0] == code


@pytest.mark.parametrize(
    ("proxy", "command", "code", "reason"),
    [
        ("ready", "missing", 127, "No such file"),
        ("missing", "0", 127, "No such file"),
        ("broken", "0", 1, "exit status 3 before the command began"),
        ("silent", "0", 1, "not ready at http://127.0.0.1"),
        ("unready", "0", 1, "not ready at http://127.0.0.1"),
    ],
)
def test_the_job_ends_when_one_of_them_does_not_start(
    tmp_path: Path, proxy: str, command: str, code: int, reason: str
) -> None:
    """A missing program, and a proxy that ends or is never ready, end the job with the reason."""
    limit = ("--start-s=1",) if proxy in ("silent", "unready") else ()
    with running(tmp_path, proxy, command, options=limit) as job:
        found, errors = job.end()
    assert (found, reason in errors) == (code, True), errors


@pytest.mark.parametrize("command", ["waits", "deaf"])
def test_the_job_ends_when_its_proxy_is_killed(tmp_path: Path, command: str) -> None:
    """A command without its proxy is ended, in the end by SIGKILL, and the job fails with the reason."""
    limit = ("--grace-s=1",) if command == "deaf" else ()
    with running(tmp_path, "ready", command, options=limit) as job:
        assert job.started() == command
        job.kill("proxy")
        code, errors = job.end()
    assert (code, "exit status -9 while the command ran" in errors) == (1, True), errors


def test_the_job_ends_when_its_command_is_killed(tmp_path: Path) -> None:
    """The kernel kills the command when memory is short: the job fails, and the proxy ends."""
    with running(tmp_path, "ready", "waits") as job:
        job.started()
        job.kill("command")
        assert job.end()[0] == 128 + signal.SIGKILL


def test_the_job_ends_though_the_proxy_ignores_the_end(tmp_path: Path) -> None:
    """A proxy that ignores SIGTERM is killed; the exit code stays the command's."""
    with running(tmp_path, "deaf", "0", options=("--grace-s=1",)) as job:
        assert job.end()[0] == 0


@pytest.mark.parametrize("command", ["waits", "deaf"])
def test_nothing_is_left_when_the_first_process_is_killed(tmp_path: Path, command: str) -> None:
    """SIGKILL to the container's first process ends both children."""
    with running(tmp_path, "deaf", command) as job:
        job.started()
        job.process.kill()
        assert job.end()[0] == -signal.SIGKILL


def test_a_cancelled_job_ends_gently(tmp_path: Path) -> None:
    """SIGTERM goes to the command, which finishes; the exit code is the command's."""
    with running(tmp_path, "ready", "waits") as job:
        job.started()
        job.process.send_signal(signal.SIGTERM)
        assert job.end()[0] == 5


def test_a_job_is_cancelled_before_its_command_runs(tmp_path: Path) -> None:
    """SIGTERM while the proxy is not ready ends the job without the command."""
    with running(tmp_path, "announces", "0") as job:
        assert job.started() == "announced"
        job.process.send_signal(signal.SIGTERM)
        assert job.end()[0] == 128 + signal.SIGTERM


#: Postgres's answer to a login with the wrong password: an ErrorResponse with severity, SQLSTATE and text.
_FIELDS = b"SFATAL\0VFATAL\0C28P01\0Mwrong password\0\0"
_REFUSAL = b"E" + (len(_FIELDS) + 4).to_bytes(4, "big") + _FIELDS


class LateServer:
    """A port that takes connections and closes them, as the Cloud SQL Auth Proxy does while its server is away.

    From connection number `first` on, the login is refused.
    """

    def __init__(self, first: float) -> None:
        self._first = first
        self._listener = socket.create_server(("127.0.0.1", 0))
        #: Number of connections.
        self.asked = 0

    @property
    def port(self) -> int:
        """The port."""
        found: int = self._listener.getsockname()[1]
        return found

    def serve(self) -> None:
        """Take connections until `close`."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.asked += 1
                with client, suppress(OSError):
                    if self.asked >= self._first:
                        client.recv(1024)
                        client.sendall(_REFUSAL)

    def close(self) -> None:
        """End."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def late_server(first: float) -> Iterator[LateServer]:
    server = LateServer(first)
    thread = Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def postgres_at(port: int) -> str:
    return f"postgresql://login@127.0.0.1:{port}/dropline?sslmode=disable"


def test_the_command_waits_until_postgres_answers(tmp_path: Path) -> None:
    """A proxy that closes each connection is no answer; a refused login is one. The wait is one line."""
    with (
        late_server(first=3) as server,
        running(tmp_path, "ready", "0", DROPLINE_DATABASE__URL=postgres_at(server.port)) as job,
    ):
        code, errors = job.end()
    lines = [line for line in errors.splitlines() if "answer" in line]
    told = "dropline: Postgres (DROPLINE_DATABASE__URL) does not answer yet; asked again for 180 s"
    assert (code, server.asked, lines) == (0, 3, [told])


def test_the_command_waits_until_redis_answers(tmp_path: Path) -> None:
    """A job with Redis in its environment waits for it too."""
    (port,) = free_ports(1)
    with running(tmp_path, "ready", "0", DROPLINE_BROKER__URL=f"redis://:secret@127.0.0.1:{port}/0") as job:
        assert job.process.stderr
        while "Redis (DROPLINE_BROKER__URL) does not answer yet" not in (line := job.process.stderr.readline()):
            assert line
        with socket.create_server(("127.0.0.1", port)):
            assert job.end()[0] == 0


def test_a_server_that_answers_is_not_waited_for(
    tmp_path: Path, postgres_server: PostgresServer, redis_url: str
) -> None:
    """A wrong login and a missing database are answers of a real Postgres: the command runs, and names them."""
    address = f"postgresql://nobody:wrong@127.0.0.1:{postgres_server.port}/missing"
    with running(tmp_path, "ready", "0", DROPLINE_DATABASE__URL=address, DROPLINE_BROKER__URL=redis_url) as job:
        code, errors = job.end()
    assert (code, "answer" in errors) == (0, False), errors


@pytest.mark.parametrize("url", ["postgresql://127.0.0.1:port/x", "nonsense"])
def test_a_wrong_setting_is_not_waited_for(tmp_path: Path, url: str) -> None:
    """The command has the same settings, and names the fault."""
    with running(tmp_path, "ready", "3", DROPLINE_DATABASE__URL=url) as job:
        assert job.end()[0] == 3


def test_the_job_ends_when_a_server_never_answers(tmp_path: Path) -> None:
    """The command does not run, and the last line names the server and the remedy."""
    with (
        late_server(first=float("inf")) as server,
        running(
            tmp_path, "ready", "7", options=("--answer-s=1",), DROPLINE_DATABASE__URL=postgres_at(server.port)
        ) as job,
    ):
        code, errors = job.end()
    assert code == 1
    assert "Postgres (DROPLINE_DATABASE__URL) did not answer within 1 s, so the command did not run" in errors


def test_a_job_is_cancelled_while_it_waits_for_a_server(tmp_path: Path) -> None:
    """SIGTERM during the wait ends the job without the command."""
    with (
        late_server(first=float("inf")) as server,
        running(tmp_path, "ready", "0", DROPLINE_DATABASE__URL=postgres_at(server.port)) as job,
    ):
        assert job.process.stderr
        while "does not answer yet" not in (line := job.process.stderr.readline()):
            assert line
        job.process.send_signal(signal.SIGTERM)
        assert job.end()[0] == 128 + signal.SIGTERM


def test_the_job_ends_when_its_proxy_ends_while_it_waits(tmp_path: Path) -> None:
    """A proxy that dies during the wait ends the job at once."""
    with (
        late_server(first=float("inf")) as server,
        running(tmp_path, "ready", "0", DROPLINE_DATABASE__URL=postgres_at(server.port)) as job,
    ):
        assert job.process.stderr
        while "does not answer yet" not in (line := job.process.stderr.readline()):
            assert line
        job.kill("proxy")
        code, errors = job.end()
    assert (code, "exit status -9 before the command began" in errors) == (1, True), errors


@pytest.mark.parametrize("arguments", [[], ["--", "proxy"], ["--", "proxy", "--"], ["--", "--", "command"]])
def test_half_a_command_line_is_refused(arguments: list[str]) -> None:
    """Without a proxy or a command, nothing starts."""
    start = [sys.executable, "-m", "db.with_proxy", "--startup=http://127.0.0.1:1/", *arguments]
    finished = subprocess.run(start, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (finished.returncode, "is missing" in finished.stderr) == (2, True)
