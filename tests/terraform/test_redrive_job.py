"""The command of the redrive job, run as in the container."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from cli.main import load_command
from tests.terraform.parts import container_of, part
from tests.terraform.workspace import Plan

#: Stands for `dropline`: prints the arguments, waits for a cancellation if told to, and exits with 3 or 5.
_STAND_IN = """#!/bin/sh
trap 'echo cancelled; exit 5' TERM
echo "$@"
[ "$2" = wait ] && while :; do sleep 0.05; done
exit 3
"""


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """A stand-in for the job's proxy: the address, and the paths posted so far."""
    posted: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", posted
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def started(plan: Plan, directory: Path, address: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the container's command, with a stand-in for Dropline and the proxy at `address`."""
    (directory / "dropline").write_text(_STAND_IN)
    (directory / "dropline").chmod(0o755)
    (directory / "python").symlink_to(sys.executable)
    command = [each.replace("127.0.0.1:9091", address) for each in container_of(plan, "redrive")["command"]]
    environment = {"PATH": f"{directory}:/usr/bin:/bin"}
    with subprocess.Popen([*command, *arguments], env=environment, stdout=subprocess.PIPE, text=True) as job:
        try:
            yield job
        finally:
            job.kill()


def test_the_job_ends_as_its_command_does(plan: Plan, tmp_path: Path) -> None:
    """The command gets the arguments, the job ends with the command's exit code, and the proxy is told to end."""
    arguments = ("--error-code=engine_lost", "--prefix=in my/")
    with proxy() as (address, posted), started(plan, tmp_path, address, *arguments) as job:
        said, _ = job.communicate(timeout=60)
    assert (job.returncode, said.strip()) == (3, "redrive --error-code=engine_lost --prefix=in my/")
    assert posted == ["/quitquitquit"]


def test_a_cancelled_job_ends_gently(plan: Plan, tmp_path: Path) -> None:
    """The command is told of the cancellation and may finish, and then the proxy is told to end."""
    with proxy() as (address, posted), started(plan, tmp_path, address, "wait") as job:
        assert job.stdout
        assert job.stdout.readline() == "redrive wait\n"
        job.send_signal(signal.SIGTERM)
        said, _ = job.communicate(timeout=60)
    assert (job.returncode, said) == (5, "cancelled\n")
    assert posted == ["/quitquitquit"]


def test_the_command_is_droplines(plan: Plan) -> None:
    """The command `dropline redrive` exists and takes the job's default arguments."""
    container = container_of(plan, "redrive")
    assert "\ndropline redrive " in container["command"][2]
    context = load_command("redrive").make_context("redrive", [*container["args"]])
    assert context.params["dry_run"] is True


@pytest.mark.parametrize("name", ["migrations", "redrive"])
def test_a_job_ends_with_its_proxy(plan: Plan, name: str) -> None:
    """The job tells the proxy to end at the proxy's admin address."""
    (beside,) = [each for each in part(plan, name)["containers"] if each["name"] == "cloud-sql-proxy"]
    assert {"--quitquitquit", "--admin-port=9091"} <= set(beside["args"])
    assert "http://127.0.0.1:9091/quitquitquit" in "".join(container_of(plan, name)["command"])
