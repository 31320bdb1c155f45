"""An older version of Dropline beside the present one: its files are from git, its packages the present ones."""

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class OldVersion:
    """The files of a commit."""

    directory: Path

    @property
    def variables(self) -> dict[str, str]:
        """Variables of a Python process that imports the old version; its working directory is `entered`."""
        return {"PYTHONPATH": str(self.directory)}

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Processes started meanwhile have the old files as their working directory, which `python -m` imports."""
        before = Path.cwd()
        os.chdir(self.directory)
        try:
            yield
        finally:
            os.chdir(before)

    def imported(self, module: str) -> Path:
        """The file that such a process imports."""
        found = subprocess.run(
            [sys.executable, "-c", f"import {module}; print({module}.__file__)"],
            env=os.environ | self.variables,
            cwd=self.directory,
            capture_output=True,
            text=True,
            check=True,
        )
        return Path(found.stdout.strip())


def unpack(commit: str, directory: Path) -> OldVersion:
    """Write the files of a commit to `directory`; skips without the history of git, except in CI."""
    made = subprocess.run(["git", "archive", commit], cwd=_ROOT, capture_output=True, check=False)
    if made.returncode != 0:
        reason = f"git has no commit {commit[:7]} (a shallow clone, or no clone): git fetch --unshallow"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with tarfile.open(fileobj=BytesIO(made.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return OldVersion(directory)
