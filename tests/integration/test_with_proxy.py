"""A job and its proxy end in every case: real processes stand for the proxy and the command."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local_emulators.ports import free_ports
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
def running(directory: Path, proxy: str, *command: str, options: tuple[str, ...] = ()) -> Iterator[Job]:
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
        env=mark.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
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
        ("broken", "0", 1, "exit status 3 before it was ready"),
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


@pytest.mark.parametrize("arguments", [[], ["--", "proxy"], ["--", "proxy", "--"], ["--", "--", "command"]])
def test_half_a_command_line_is_refused(arguments: list[str]) -> None:
    """Without a proxy or a command, nothing starts."""
    start = [sys.executable, "-m", "db.with_proxy", "--startup=http://127.0.0.1:1/", *arguments]
    finished = subprocess.run(start, capture_output=True, text=True, check=False, timeout=DEADLINE_S)
    assert (finished.returncode, "is missing" in finished.stderr) == (2, True)
