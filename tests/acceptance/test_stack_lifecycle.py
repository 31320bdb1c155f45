"""`dropline up` as a process: services start in order, and no process or `env` file is left at the end."""

import io
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import requests
from PIL import Image

from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION
from local_emulators import options
from local_emulators.errors import PortInUseError
from local_emulators.options import BUCKET, StackOptions
from local_emulators.ports import Ports, require_free
from local_emulators.stack import Stack
from tests.support.fake_hub import open_hub
from tests.support.processes import ProcessMark, linux_only

pytestmark = pytest.mark.acceptance

#: Longer than any step on a busy machine; no test measures a duration.
DEADLINE_S = 240.0
SERVICES = ("postgres", "redis", "pubsub", "gcs", "function", "worker", "gallery")


class Up:
    """A running `dropline up` and the pipes of the output."""

    def __init__(self, directory: Path, mark: ProcessMark, *arguments: str, port_base: int = 0) -> None:
        self.directory = directory
        self.mark = mark
        command = "from cli.main import main; main()"
        argv = ["up", "--dir", str(directory), "--model", "stub", "--port-base", str(port_base), *arguments]
        self.process = subprocess.Popen(
            [sys.executable, "-c", command, *argv],
            env=mark.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def read_until(self, text: str) -> list[str]:
        """Return the printed lines up to and including the line that contains `text`."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line.rstrip("\n"))
            if text in line:
                return lines
        pytest.fail(f"it ended before it said {text!r}: {lines} {self.end()}")

    def end(self) -> tuple[int, str, str]:
        """Wait for the exit, and return exit status and the rest of standard output and standard error."""
        output, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, output, errors

    def signal(self, number: signal.Signals) -> tuple[int, str, str]:
        """Send a signal, and wait for the exit like `end`."""
        self.process.send_signal(number)
        return self.end()

    def service_pid(self, text: str) -> int:
        """The oldest process of this stack with `text` in the command line."""
        return min(pid for pid, command in self.mark.processes().items() if text in command)


@contextmanager
def running(directory: Path, *arguments: str, port_base: int = 0) -> Iterator[Up]:
    up = Up(directory, ProcessMark(), *arguments, port_base=port_base)
    try:
        yield up
    finally:
        if up.process.poll() is None:
            up.process.kill()
        up.process.communicate()


def sourced(path: Path) -> dict[str, str]:
    """The variables of a shell after `source PATH`."""
    shown = subprocess.run(
        ["sh", "-c", '. "$0" && env -0', str(path)], env={}, capture_output=True, text=True, check=True
    )
    return dict(entry.split("=", 1) for entry in shown.stdout.split("\0") if entry)


def picture() -> bytes:
    """A small JPEG."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, "JPEG")
    return buffer.getvalue()


def drop(environment: dict[str, str], name: str) -> None:
    """Upload a picture by an HTTP request to the storage emulator."""
    url = f"{environment['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/{environment['DROPLINE_BUCKET']}/o"
    response = requests.post(
        url, params={"uploadType": "media", "name": name}, data=picture(), headers={"content-type": "image/jpeg"},
        timeout=60,
    )  # fmt: skip
    response.raise_for_status()


def wait_for_caption(environment: dict[str, str], name: str) -> str:
    """Wait for the caption of an object, with notifications of Postgres instead of polling."""
    query = "SELECT caption FROM current_captions WHERE object_name = %s AND metadata_written_at IS NOT NULL"
    with (
        psycopg.connect(environment["DATABASE_URL"], autocommit=True) as listener,
        psycopg.connect(environment["DATABASE_URL"], autocommit=True) as reader,
    ):
        listener.execute("LISTEN captions")
        found = reader.execute(query, (name,)).fetchone()
        while found is None:
            assert [*listener.notifies(timeout=DEADLINE_S, stop_after=1)], f"no caption for {name}"
            found = reader.execute(query, (name,)).fetchone()
        return str(found[0])


@linux_only
def test_it_comes_up_in_order_captions_a_drop_and_leaves_nothing_behind(state_directory: Path) -> None:
    """A start prints a line per service and how to drop an image; SIGTERM ends all processes, with status 0."""
    with running(state_directory / "stack") as up:
        lines = up.read_until("Ctrl-C stops everything")
        assert [line.split()[0] for line in lines if " ready " in line] == list(SERVICES)
        assert any("gsutil cp" in line for line in lines)
        environment = sourced(state_directory / "stack" / "env")
        drop(environment, "red.jpg")
        assert wait_for_caption(environment, "red.jpg")
        status, output, errors = up.signal(signal.SIGTERM)
        assert (status, errors) == (0, "")
        assert output.splitlines()[-1] == "stopped"
        assert up.mark.processes() == {}
        assert not (state_directory / "stack" / "env").exists()


@linux_only
def test_a_second_one_on_the_same_ports_or_directory_says_what_to_do(state_directory: Path) -> None:
    """The second `dropline up` exits with 1 and one error, starts no process, and does not disturb the first."""
    base = _free_base()
    with running(state_directory / "first", port_base=base) as first:
        first.read_until("Ctrl-C stops everything")
        with running(state_directory / "second", port_base=base) as second:
            status, _, errors = second.end()
            assert status == 1
            assert f"Port {base}" in errors
            assert "Postgres" in errors
            assert "--port-base" in errors
            assert "Traceback" not in errors
            assert second.mark.processes() == {}
            assert not (state_directory / "second").exists()
        with running(state_directory / "first") as third:
            status, _, errors = third.end()
            assert status == 1
            assert "is used by another `dropline up`" in errors
            assert "--dir" in errors
        environment = sourced(state_directory / "first" / "env")
        drop(environment, "still-there.jpg")
        assert wait_for_caption(environment, "still-there.jpg")
        assert first.signal(signal.SIGINT)[0] == 0


@linux_only
def test_the_same_directory_keeps_its_rows(state_directory: Path) -> None:
    """Captions are still in Postgres after a stop and a start; Flower's password is made once, and kept apart.

    `dropline down` stops the stack; the next start says that its row has no object.
    """
    with running(state_directory / "stack", "--flower") as up:
        lines = up.read_until("Ctrl-C stops everything")
        check_flower(up, next(line for line in lines if line.startswith("flower")))
        environment = sourced(state_directory / "stack" / "env")
        drop(environment, "kept.jpg")
        caption = wait_for_caption(environment, "kept.jpg")
        assert "of an earlier start" not in "".join(lines)
        down = subprocess.run(
            [sys.executable, "-m", "cli", "down", "--dir", str(state_directory / "stack")],
            capture_output=True,
            text=True,
            check=True,
            timeout=DEADLINE_S,
        )
        assert down.stdout == "stopped\n"
        assert up.end()[0] == 0
        assert up.mark.processes() == {}
    password = (state_directory / "stack" / "flower-password").read_text().strip()
    with running(state_directory / "stack", "--flower") as up:
        lines = up.read_until("Ctrl-C stops everything")
        assert password not in "\n".join(lines)
        assert any(line.startswith("1 row of an earlier start has no object") for line in lines)
        assert wait_for_caption(sourced(state_directory / "stack" / "env"), "kept.jpg") == caption
        assert up.signal(signal.SIGTERM)[0] == 0


def check_flower(up: Up, line: str) -> None:
    """Flower needs the printed password and sees the worker; the password is in one file of the owner alone."""
    _, _, address, _, user, _, password, _ = line.replace(",", "").split(maxsplit=7)
    file = up.directory / "flower-password"
    assert file.read_text().strip() == password
    assert file.stat().st_mode & 0o777 == 0o600
    assert requests.get(address, timeout=DEADLINE_S).status_code == 401
    assert requests.get(address, auth=(user, "another"), timeout=DEADLINE_S).status_code == 401
    workers = requests.get(
        f"{address}/api/workers", params={"refresh": "true"}, auth=(user, password), timeout=DEADLINE_S
    )
    assert ["dropline.caption" in str(worker["registered"]) for worker in workers.json().values()] == [True]
    assert not any(password in log.read_text() for log in (up.directory / "logs").iterdir())
    assert not any(password in command for command in up.mark.processes().values())


@linux_only
def test_a_service_that_dies_is_named_and_ends_the_rest(state_directory: Path) -> None:
    """A killed function ends the stack with status 1; the error has the service's name and last log lines."""
    with running(state_directory / "stack") as up:
        up.read_until("Ctrl-C stops everything")
        os.kill(up.service_pid("trigger_fn.wsgi"), signal.SIGKILL)
        status, _, errors = up.end()
        assert status == 1
        assert "function was killed by SIGKILL" in errors
        assert "function_ready" in errors
        assert up.mark.processes() == {}


@linux_only
def test_ctrl_c_while_it_starts_ends_it(state_directory: Path) -> None:
    """A signal during the start stops all started services, and no `env` file is written."""
    with running(state_directory / "stack") as up:
        up.read_until("postgres")
        status, output, errors = up.signal(signal.SIGINT)
        assert (status, errors) == (0, "")
        assert "stopped before everything was ready" in output
        assert up.mark.processes() == {}
        assert not (state_directory / "stack" / "env").exists()


@linux_only
def test_nothing_outlives_a_hard_kill(state_directory: Path) -> None:
    """After `kill -9` of `dropline up`, every process of the stack ends."""
    with running(state_directory / "stack") as up:
        up.read_until("Ctrl-C stops everything")
        assert len(up.mark.processes()) > len(SERVICES)
        up.process.kill()
        assert up.mark.wait_until_gone(DEADLINE_S) == {}


def test_services_can_be_killed_and_started_again(state_directory: Path) -> None:
    """An image uploaded without a running worker is captioned by the next worker."""
    chosen = StackOptions(state_directory / "stack", port_base=0, model="stub")
    with Stack(chosen) as stack:
        stack.services["worker"].kill()
        drop(stack.environment, "early.jpg")
        stack.services["worker"].restart()
        assert wait_for_caption(stack.environment, "early.jpg")
        stack.services["function"].restart()
        drop(stack.environment, "late.jpg")
        assert wait_for_caption(stack.environment, "late.jpg")
    assert stack.environment == {}


def test_the_base_model_is_downloaded_before_the_services_start(
    state_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`base` is the default checkpoint; the download is reported, and the engine sends no request to the hub."""
    weights = Path(options.__file__).parent / "demo_model"
    monkeypatch.setenv("HF_HOME", str(state_directory / "cache"))
    progress: list[tuple[int, int]] = []
    asked: dict[str, int] = {}
    with open_hub(DEFAULT_CHECKPOINT, DEFAULT_REVISION, weights) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        with Stack(
            StackOptions(state_directory / "stack", port_base=0, model="base"),
            announce=lambda name, _: asked.update({name: len(hub.requests)}),
            progress=lambda done, total: progress.append((done, total)),
        ) as stack:
            drop(stack.environment, "red.jpg")
            assert wait_for_caption(stack.environment, "red.jpg")
            with psycopg.connect(stack.environment["DATABASE_URL"]) as connection:
                assert connection.execute("SELECT model FROM captions").fetchall() == [(DEFAULT_CHECKPOINT,)]
        assert next(iter(asked)) == "model"
        assert len(hub.requests) == asked["model"]
    assert progress[-1][0] == progress[-1][1] > 7_000_000


def test_own_servers_are_used_where_they_are_given(
    state_directory: Path, database_url: str, redis_url: str
) -> None:
    """With URLs of a Postgres and a Redis, the stack starts neither, and captions are in the given Postgres."""
    chosen = StackOptions(
        state_directory / "stack",
        port_base=0,
        model="stub",
        database_url=database_url,
        redis_url=redis_url,
    )
    with Stack(chosen) as stack:
        assert not {"postgres", "redis"} & stack.services.keys()
        assert stack.environment["DATABASE_URL"] == database_url
        drop(stack.environment, "own.jpg")
        assert wait_for_caption(stack.environment, "own.jpg")


@pytest.mark.parametrize("client", ["gsutil", "gcloud"])
def test_the_usual_clients_work_with_the_env_file(state_directory: Path, client: str) -> None:
    """An image that `gsutil cp` or `gcloud storage cp` uploads with the variables of `env` alone is captioned."""
    beside_python = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    program = shutil.which(client, path=beside_python)
    if program is None:
        pytest.skip(f"{client} is not installed")
    chosen = StackOptions(state_directory / "stack", port_base=0, model="stub")
    with Stack(chosen) as stack:
        source = state_directory / "photo one.jpg"
        source.write_bytes(picture())
        storage = ["storage"] if client == "gcloud" else []
        subprocess.run(
            [program, *storage, "cp", str(source), f"gs://{BUCKET}/"],
            env=os.environ | stack.environment,
            check=True,
            capture_output=True,
            timeout=DEADLINE_S,
        )
        assert wait_for_caption(stack.environment, "photo one.jpg")


def _free_base() -> int:
    """The first of eight consecutive ports that are free when checked.

    They lie below the ports that systems give to outgoing connections: such a connection would take one of them
    before its server starts.
    """
    for base in random.sample(range(20_000, 32_000, 8), 100):
        with suppress(PortInUseError):
            for port in vars(Ports.from_base(base)).values():
                require_free(port, "a test")
            return base
    pytest.fail("no eight consecutive ports are free")
