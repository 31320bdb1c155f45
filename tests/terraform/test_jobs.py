"""The commands of the jobs, run as in the container; each way to die: `tests/integration/test_with_proxy.py`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.main import load_command
from local_emulators.ports import free_ports
from migrations import deploy
from tests.support.processes import ProcessMark
from tests.terraform.parts import container_of, part, split_command
from tests.terraform.workspace import ROOT, Plan

JOBS = ("migrations", "redrive")
_DEADLINE_S = 60.0

#: Stands for `cloud-sql-proxy`: ready when a client may connect.
_PROXY = """#!{python}
import http.server, sys
(port,) = [each.partition("=")[2] for each in sys.argv if each.startswith("--http-port=")]
class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/startup" else 404)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("127.0.0.1", int(port)), Ready).serve_forever()
"""
#: Stands for Dropline's own command: prints the arguments, and ends with 3, or with 5 after SIGTERM.
_COMMAND = """#!/bin/sh
trap 'echo cancelled; exit 5' TERM
echo "$@"
[ "$2" = wait ] && while :; do sleep 0.05; done
exit 3
"""


@contextmanager
def started(plan: Plan, name: str, directory: Path, *arguments: str) -> "Iterator[subprocess.Popen[str]]":
    """Run the container's command, with stand-ins for Dropline and the proxy; no process is left afterwards."""
    for program, text in (("cloud-sql-proxy", _PROXY.format(python=sys.executable)), ("dropline", _COMMAND)):
        (directory / program).write_text(text)
        (directory / program).chmod(0o755)
    mark, (port,) = ProcessMark(), free_ports(1)
    options, proxy, command = split_command(container_of(plan, name)["command"])
    if command[0] == "python":
        command = [str(directory / "dropline"), *command[1:]]
    assert options[0] == "python"
    whole = [sys.executable, *options[1:], "--", *proxy, "--", *command, *arguments]
    whole = [each.replace(":9801", f":{port}").replace("=9801", f"={port}") for each in whole]
    environment = mark.environment | {"PATH": f"{directory}:{os.defpath}", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(whole, env=environment, stdout=subprocess.PIPE, text=True) as job:
        try:
            yield job
        finally:
            job.kill()
    assert mark.wait_until_gone(_DEADLINE_S) == {}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_ends_as_its_command_does(plan: Plan, name: str, tmp_path: Path) -> None:
    """The command gets its arguments, the job ends with the command's exit code, and the proxy has ended."""
    arguments = ("--error-code=engine_lost", "--prefix=in my/")
    _, _, (_, *own) = split_command(container_of(plan, name)["command"])
    with started(plan, name, tmp_path, *arguments) as job:
        said, _ = job.communicate(timeout=_DEADLINE_S)
    assert (job.returncode, said.strip()) == (3, " ".join([*own, *arguments]))


def test_a_cancelled_job_ends_gently(plan: Plan, tmp_path: Path) -> None:
    """The command is told of the cancellation and may finish, and then the proxy ends."""
    with started(plan, "redrive", tmp_path, "wait") as job:
        assert job.stdout
        assert job.stdout.readline() == "redrive wait\n"
        job.send_signal(signal.SIGTERM)
        said, _ = job.communicate(timeout=_DEADLINE_S)
    assert (job.returncode, said) == (5, "cancelled\n")


def test_the_commands_are_droplines(plan: Plan) -> None:
    """`dropline redrive` exists and takes the job's default arguments; the migrations' module exists."""
    container = container_of(plan, "redrive")
    assert split_command(container["command"])[2] == ["dropline", "redrive"]
    context = load_command("redrive").make_context("redrive", [*container["args"]])
    assert context.params["dry_run"] is True
    _, _, (python, option, module, *arguments) = split_command(container_of(plan, "migrations")["command"])
    assert (python, option, module) == ("python", "-m", deploy.__name__)
    assert all(each.startswith("--grant=") for each in arguments)


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_one_container(plan: Plan, name: str) -> None:
    """The job ends with its container, also where the image is missing or memory is short."""
    assert [each["name"] for each in part(plan, name)["containers"]] == [name]
