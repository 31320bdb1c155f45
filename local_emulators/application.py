"""Dropline's own processes as services of the stack: the function under gunicorn, the worker and the gallery."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from local_emulators.database import DatabaseUrls
from local_emulators.model import engine_variables, is_on_hub
from local_emulators.options import BUCKET, PROJECT
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Service, Supervisor

#: Requests served at once by the function; further pushes wait for a free thread.
_THREADS = 16
#: Seconds an idle connection stays open, so that later pushes reuse the connection.
_KEEP_ALIVE_S = 60
#: Seconds for loading the model.
_WORKER_START_DEADLINE_S = 1800.0
_WORKER_STOP_GRACE_S = 60.0


@dataclass(frozen=True)
class ServiceEnvironment:
    """Addresses and settings shared by the function and the worker."""

    broker_url: str
    #: Cloud Storage over plain HTTP.
    storage_url: str
    #: Additional variables of the user; they override all other variables.
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self, database_url: str, **further: str) -> dict[str, str]:
        """The complete environment of a process with the given database and `further` variables."""
        return process_environment(
            **{
                "PYTHONPATH": python_path(),
                "GOOGLE_CLOUD_PROJECT": PROJECT,
                "STORAGE_EMULATOR_HOST": self.storage_url,
                "DROPLINE_DATABASE__URL": database_url,
                "DROPLINE_BROKER__URL": self.broker_url,
                "DROPLINE_EVENTS__BUCKETS": json.dumps([BUCKET]),
                **further,
                **self.environment,
            }
        )

    def rules(self) -> dict[str, str]:
        """The settings by which the function selects objects, for shells: `dropline wait` judges by the same."""
        environment = self.variables("")
        return {name: value for name, value in environment.items() if name.startswith("DROPLINE_EVENTS__")}


def start_function(supervisor: Supervisor, port: int, shared: ServiceEnvironment, database_url: str) -> Service:
    """Starts the function on `port` under gunicorn, the HTTP server used in the cloud too.

    Raises:
        PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "the function")
    return supervisor.start(
        Command(
            name="function",
            argv=(
                *(sys.executable, "-m", "gunicorn", "--config", "python:trigger_fn.server"),
                *("--worker-class", "gthread", "--workers", "1"),
                *("--threads", str(_THREADS), "--keep-alive", str(_KEEP_ALIVE_S), "--no-control-socket"),
                *("--bind", f"{HOST}:{port}", "trigger_fn.wsgi:create()"),
            ),
            # gunicorn's own line reports an open port; `function_ready` reports a loaded application.
            ready_lines=("function_ready",),
            environment=shared.variables(database_url),
        )
    )


def start_worker(
    supervisor: Supervisor, shared: ServiceEnvironment, database_url: str, model: str, concurrency: int
) -> Service:
    """Starts a worker with an engine, and waits until the model is loaded.

    Raises:
        ServiceDiedError, ServiceNotReadyError.
    """
    return supervisor.start(
        Command(
            name="worker",
            argv=(sys.executable, "-m", "worker"),
            ready_lines=("worker_ready",),
            environment=shared.variables(
                database_url, DROPLINE_WORKER__CONCURRENCY=str(concurrency), **_model_variables(model)
            ),
            start_deadline_s=_WORKER_START_DEADLINE_S,
            stop_grace_s=_WORKER_STOP_GRACE_S,
        )
    )


def start_gallery(
    supervisor: Supervisor, port: int, shared: ServiceEnvironment, urls: DatabaseUrls, cache: Path
) -> Service:
    """Starts the gallery on `port`; `cache` is the directory of the copies of images.

    Raises:
        PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "the gallery")
    return supervisor.start(
        Command(
            name="gallery",
            argv=(sys.executable, "-m", "gallery"),
            ready_lines=("gallery_ready",),
            environment=shared.variables(
                urls.gallery,
                DATABASE_URL=urls.reader,
                DROPLINE_BUCKET=BUCKET,
                DROPLINE_GALLERY__HOST=HOST,
                DROPLINE_GALLERY__PORT=str(port),
                DROPLINE_GALLERY__DATABASE_URL=urls.gallery,
                DROPLINE_GALLERY__CACHE_DIRECTORY=str(cache),
            ),
        )
    )


def _model_variables(model: str) -> dict[str, str]:
    """The engine's settings; the model has been downloaded, so no start of the engine needs a hub."""
    return engine_variables(model) | ({"HF_HUB_OFFLINE": "1"} if is_on_hub(model) else {})
