"""How a server is run: a value, so that the same server can be started again."""

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: Variables of a developer's shell that would lead a child to some other cloud than this one.
_FOREIGN = ("DATABASE_URL", "PUBSUB_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "BOTO_CONFIG", "FUNCTION_TARGET")
_FOREIGN_PREFIXES = ("CLOUDSDK_", "FAKE_GCS_", "GOOGLE_", "PG", "CELERY_", "GUNICORN_")


@dataclass(frozen=True)
class Command:
    """One server's command line and manners."""

    #: What people call the service: the name in messages, and of its log file.
    name: str
    argv: tuple[str, ...]
    #: It is ready once each of these has been part of a line of its output.
    ready_lines: tuple[str, ...]
    #: The child's whole environment; see `child_environment`.
    environment: Mapping[str, str]
    #: The account it runs under, by id; this process's own where None.
    user: int | None = None
    group: int | None = None
    cwd: Path | None = None
    #: Asks for an orderly end.
    stop_signal: signal.Signals = signal.SIGTERM
    #: Ends it as a crash would.
    crash_signal: signal.Signals = signal.SIGKILL
    start_deadline_s: float = 60.0
    #: How long an orderly end may take before SIGKILL.
    stop_grace_s: float = 15.0


def child_environment(**variables: str) -> dict[str, str]:
    """This process's environment without the variables that name another cloud, and with `variables`.

    Proxies are told to leave this machine's own addresses alone.
    """
    inherited = {name: value for name, value in os.environ.items() if not _is_foreign(name)}
    bypass = ",".join(filter(None, (inherited.get("NO_PROXY"), "127.0.0.1", "localhost")))
    local = {"NO_PROXY": bypass, "no_proxy": bypass, "PYTHONUNBUFFERED": "1"}
    return inherited | local | variables


def python_path() -> str:
    """A PYTHONPATH with which a Python child finds the project, installed or not, wherever it is started."""
    root = str(Path(__file__).resolve().parents[1])
    return os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))


def _is_foreign(name: str) -> bool:
    return name in _FOREIGN or name.startswith(_FOREIGN_PREFIXES)
