"""Every line on the standard error of a worker and of the function is JSON."""

import json
import sys
from pathlib import Path
from typing import Any

from local_emulators.ports import free_ports
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Supervisor
from tests.support.worker_rig import DEADLINE_S, Rig, png

_NOISE = ("a noisy line", "a noisy library: ", "a noisy warning", "thread noisy ended by ZeroDivisionError")


def assert_noise_is_json(log: str) -> None:
    """Each kind of noise is a record, and nothing else is in the log."""
    records: list[dict[str, Any]] = [json.loads(line) for line in log.splitlines()]
    for noise in _NOISE:
        (first, *_) = (record for record in records if noise in record["message"])
        assert first["severity"] in {"WARNING", "ERROR"}
        assert first["logger"] in {"stderr", "py.warnings"}
        assert first["service"] in {"worker", "function"}


def test_a_worker_writes_json_alone(rig: Rig) -> None:
    """Parent, children and engine, from the start to a stop by SIGTERM."""
    rig.module = "tests.support.noisy_worker"
    worker = rig.worker()
    (row,) = rig.wait_settled([rig.drop("a.png", png())])
    assert row["status"] == "captioned"
    worker.stop()
    assert_noise_is_json(worker.log_path.read_text())


def test_a_worker_that_cannot_start_says_so_in_json(tmp_path: Path) -> None:
    """A wrong setting is one line, before there is a log level."""
    with Supervisor(tmp_path) as supervisor:
        environment = process_environment(PYTHONPATH=python_path(), DROPLINE_BUKET="x")
        command = Command(
            "w", (sys.executable, "-m", "worker"), ready_lines=("not_started",), environment=environment
        )
        log = supervisor.start(command).log_path
        (line,) = log.read_text().splitlines()
    assert json.loads(line)["message"] == "worker_not_started"
    assert "DROPLINE_BUKET" in json.loads(line)["error"]


def test_the_function_writes_json_alone(tmp_path: Path, rig: Rig) -> None:
    """gunicorn's own lines, and those of the application."""
    port = free_ports(1)[0]
    environment = process_environment(
        PYTHONPATH=python_path(),
        DROPLINE_DATABASE__URL=rig.database_url,
        DROPLINE_BROKER__URL=rig.redis_url,
        DROPLINE_EVENTS__BUCKETS='["b"]',
    )
    gunicorn = (sys.executable, "-m", "gunicorn", "--config", "python:trigger_fn.server", "--no-control-socket")
    argv = (
        *gunicorn,
        "--worker-class",
        "gthread",
        "--bind",
        f"127.0.0.1:{port}",
        "tests.support.noisy_function:create()",
    )
    with Supervisor(tmp_path / "logs") as supervisor:
        command = Command("function", argv, ready_lines=("function_ready",), environment=environment)
        function = supervisor.start(command)
        assert function.wait_for_line("thread noisy", DEADLINE_S)
        function.stop()
        log = function.log_path.read_text()
    assert_noise_is_json(log)
    assert "Listening at" in log
