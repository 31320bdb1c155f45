"""Faults of system calls for a process under test: a full disk, and a clock that is off.

Neither needs root: a small library, compiled by the C compiler of the machine, is put before libc.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_SOURCE = Path(__file__).with_suffix(".c")


@dataclass(frozen=True)
class SystemFaults:
    """The library, and the file that makes the disk full."""

    library: Path
    full_disk_file: Path

    def clock_off_by(self, seconds: int) -> dict[str, str]:
        """Variables of a process, and so of its children, whose clock is ahead or, if negative, behind."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_OFFSET_S": str(seconds)}

    @property
    def on_small_disk(self) -> dict[str, str]:
        """Variables of a process whose files cannot grow within `disk_full`."""
        return {"LD_PRELOAD": str(self.library), "FULL_DISK_FILE": str(self.full_disk_file)}

    @contextmanager
    def disk_full(self) -> Iterator[None]:
        """No file grows meanwhile: ENOSPC. Blocks that exist are still written."""
        self.full_disk_file.touch()
        try:
            yield
        finally:
            self.full_disk_file.unlink()


def compiler() -> str | None:
    """The path of the machine's C compiler."""
    return shutil.which("cc") or shutil.which("gcc")


def build_system_faults(directory: Path) -> SystemFaults:
    """Compile the library into `directory`, which every user can read: under root, Postgres is another user."""
    found = compiler()
    assert found is not None, "no C compiler: apt-get install gcc"
    library = directory / "system_faults.so"
    subprocess.run([found, "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"], check=True)
    library.chmod(0o755)
    return SystemFaults(library, directory / "disk-is-full")


@pytest.fixture(scope="session")
def system_faults(directory_of_run: Path) -> SystemFaults:
    """The library of the run; skips without a C compiler, except in CI."""
    if compiler() is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no C compiler: apt-get install gcc libc6-dev")
        pytest.skip("no C compiler: apt-get install gcc libc6-dev")
    return build_system_faults(directory_of_run)
