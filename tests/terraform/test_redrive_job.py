"""The command of the job that redrives, run as the container would run it."""

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

#: Stands for the command: says when it runs, waits to be cancelled where it is to, and ends as it is told.
_STAND_IN = """#!/bin/sh
trap 'echo cancelled; exit 5' TERM
echo "$@"
[ "$2" = wait ] && while :; do sleep 0.05; done
exit 3
"""


@contextmanager
def proxy() -> Iterator[tuple[str, list[str]]]:
    """What is posted to the proxy beside it: its address, and the paths so far."""
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
    """The container's command, with a stand-in for Dropline and another proxy."""
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
    """Arguments go to the command, its exit code is the job's, and the proxy is told to end."""
    arguments = ("--error-code=engine_lost", "--prefix=in my/")
    with proxy() as (address, posted), started(plan, tmp_path, address, *arguments) as job:
        said, _ = job.communicate(timeout=60)
    assert (job.returncode, said.strip()) == (3, "redrive --error-code=engine_lost --prefix=in my/")
    assert posted == ["/quitquitquit"]


def test_a_cancelled_job_ends_gently(plan: Plan, tmp_path: Path) -> None:
    """The command hears of the cancellation, may finish, and then the proxy ends too."""
    with proxy() as (address, posted), started(plan, tmp_path, address, "wait") as job:
        assert job.stdout
        assert job.stdout.readline() == "redrive wait\n"
        job.send_signal(signal.SIGTERM)
        said, _ = job.communicate(timeout=60)
    assert (job.returncode, said) == (5, "cancelled\n")
    assert posted == ["/quitquitquit"]


def test_the_command_is_droplines(plan: Plan) -> None:
    """There is such a command, and it takes the arguments that the job has by default."""
    container = container_of(plan, "redrive")
    assert "\ndropline redrive " in container["command"][2]
    context = load_command("redrive").make_context("redrive", [*container["args"]])
    assert context.params["dry_run"] is True


@pytest.mark.parametrize("name", ["migrations", "redrive"])
def test_a_job_ends_with_its_proxy(plan: Plan, name: str) -> None:
    """The proxy listens where it is told to end."""
    (beside,) = [each for each in part(plan, name)["containers"] if each["name"] == "cloud-sql-proxy"]
    assert {"--quitquitquit", "--admin-port=9091"} <= set(beside["args"])
    assert "http://127.0.0.1:9091/quitquitquit" in "".join(container_of(plan, name)["command"])
