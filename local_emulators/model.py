"""The model of the stack's worker: the values of `--model`, and the download of a checkpoint before the start."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from dropline.demo_model import BASE_MODEL, DEMO_MODEL
from dropline.errors import LocalStackError
from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION
from local_emulators.options import STUB_MODEL
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Supervisor

#: Called with the received and all bytes of a download.
Progress = Callable[[int, int], None]

#: Seconds for the download of a checkpoint over a slow connection.
_DEADLINE_S = 24 * 3600.0


def checkpoint_name(model: str) -> str:
    """The checkpoint of a value of `--model`."""
    return DEFAULT_CHECKPOINT if model == BASE_MODEL else model


def is_on_hub(model: str) -> bool:
    """True for a checkpoint of the hub; False for a packaged model, for the stub and for a directory."""
    return model not in (DEMO_MODEL, STUB_MODEL) and not Path(model).is_dir()


def engine_variables(model: str) -> dict[str, str]:
    """The engine's settings for a value of `--model`."""
    if model == STUB_MODEL:
        return {"DROPLINE_ENGINE__STUB": "true", "DROPLINE_ENGINE__CHECKPOINT": DEMO_MODEL}
    variables = {"DROPLINE_ENGINE__CHECKPOINT": checkpoint_name(model)}
    if model == BASE_MODEL:
        variables["DROPLINE_ENGINE__REVISION"] = DEFAULT_REVISION
    return variables


def download(supervisor: Supervisor, model: str, progress: Progress) -> None:
    """Downloads the missing files of a checkpoint into the cache of the hub's client.

    Raises:
        LocalStackError: the hub cannot be reached, does not have the checkpoint, or a transfer broke.
        StartCancelledError: `cancel` was called.
    """
    errors: list[str] = []

    def on_line(line: str) -> None:
        if line.startswith("{"):
            document = json.loads(line)
            if error := document.get("error"):
                errors.append(error)
            else:
                progress(document["done"], document["total"])

    program = supervisor.run(
        Command(
            name="model",
            argv=(sys.executable, "-m", "worker.engine.runtime.download"),
            ready_lines=(),
            environment=process_environment(
                PYTHONPATH=python_path(), HF_HUB_DISABLE_PROGRESS_BARS="1", **engine_variables(model)
            ),
            start_deadline_s=_DEADLINE_S,
            on_line=on_line,
        )
    )
    if errors:
        raise LocalStackError(f"--model {model}: {errors[0]}")
    if program.exit_status != 0:
        raise LocalStackError(program.describe_death())
