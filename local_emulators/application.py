"""Dropline's own processes as services of the stack: the function under gunicorn, and the worker."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from local_emulators.options import BUCKET, DEMO_MODEL, PROJECT, STUB_MODEL
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Service, Supervisor

#: Requests the function serves at once: Pub/Sub's pushes under way, and some.
_THREADS = 16
#: Longer than Pub/Sub's pauses, so that its connections are used again.
_KEEP_ALIVE_S = 60
#: The model has to be fetched and loaded; a checkpoint's first download takes its time.
_WORKER_START_DEADLINE_S = 1800.0
_WORKER_STOP_GRACE_S = 60.0


@dataclass(frozen=True)
class ServiceEnvironment:
    """What both processes are told."""

    broker_url: str
    #: Storage over plain HTTP.
    storage_url: str
    #: Settings of the user's own, which have the last word.
    environment: Mapping[str, str] = field(default_factory=dict)

    def variables(self, database_url: str, **further: str) -> dict[str, str]:
        """The whole environment of a child."""
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


def start_function(supervisor: Supervisor, port: int, shared: ServiceEnvironment, database_url: str) -> Service:
    """Starts the function on `port`, behind the server it has in the cloud.

    Raises:
        PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "the function")
    return supervisor.start(
        Command(
            name="function",
            argv=(
                *(sys.executable, "-m", "gunicorn", "--worker-class", "gthread", "--workers", "1"),
                *("--threads", str(_THREADS), "--keep-alive", str(_KEEP_ALIVE_S), "--no-control-socket"),
                *("--bind", f"{HOST}:{port}", "trigger_fn.wsgi:create()"),
            ),
            # gunicorn itself only says that the port is open; this says that the application is there.
            ready_lines=("function_ready",),
            environment=shared.variables(database_url),
        )
    )


def start_worker(
    supervisor: Supervisor, shared: ServiceEnvironment, database_url: str, model: str, concurrency: int
) -> Service:
    """Starts a worker with its engine; it is ready once the model is loaded.

    Raises:
        ServiceDiedError, ServiceNotReadyError.
    """
    return supervisor.start(
        Command(
            name="worker",
            argv=(sys.executable, "-m", "worker"),
            ready_lines=("worker_ready",),
            environment=shared.variables(
                database_url, DROPLINE_WORKER__CONCURRENCY=str(concurrency), **engine_variables(model)
            ),
            start_deadline_s=_WORKER_START_DEADLINE_S,
            stop_grace_s=_WORKER_STOP_GRACE_S,
        )
    )


def engine_variables(model: str) -> dict[str, str]:
    """The engine's settings for a value of `--model`."""
    if model == STUB_MODEL:
        return {"DROPLINE_ENGINE__STUB": "true", "DROPLINE_ENGINE__CHECKPOINT": DEMO_MODEL}
    return {"DROPLINE_ENGINE__CHECKPOINT": model}
