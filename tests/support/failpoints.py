"""Crashes on demand, for tests: a token is a file; whoever removes it carries out what its name says.

Nothing of this is in the product. `failpoint_worker` wraps the product's functions with `hit`.
"""

import os
import select
import signal
from pathlib import Path
from uuid import uuid4

#: Where tokens lie and where inferences are counted; set for worker processes under test.
DIRECTORY_VARIABLE = "FAILPOINT_DIRECTORY"
#: Seconds that the model takes for a batch; none where it is not set.
INFERENCE_VARIABLE = "FAILPOINT_INFERENCE_S"


def arm(directory: Path, stage: str, victim: str, times: int = 1) -> None:
    """Let the next `times` passes through `stage` kill `victim`: `child`, `parent` or `engine`; `hang` blocks.

    `gate` blocks until the `Gate` of that stage is opened.
    """
    for _ in range(times):
        (directory / f"{stage}:{victim}:{uuid4().hex}").touch()


def armed(directory: Path) -> list[str]:
    """Tokens nobody has taken."""
    return sorted(path.name for path in directory.glob("*:*"))


def hit(stage: str) -> None:
    """Take one token of this stage, if there is one, and do as it says."""
    for token in directory().glob(f"{stage}:*"):
        try:
            token.unlink()
        except FileNotFoundError:
            continue  # another process was quicker
        victim = token.name.split(":")[1]
        if victim == "gate":
            _wait_at(stage)
        else:
            _carry_out(victim)
        return


class Gate:
    """Holds the next process that passes through a stage, until it is opened. For one process."""

    def __init__(self, directory: Path, stage: str) -> None:
        self._reached, self._opened = directory / f"{stage}.reached", directory / f"{stage}.opened"
        os.mkfifo(self._reached)
        os.mkfifo(self._opened)
        arm(directory, stage, "gate")

    def wait(self, timeout_s: float) -> int:
        """The id of the process that the gate holds.

        Raises:
            TimeoutError: none came.
        """
        # Open for both, or it would be readable before anybody has written.
        reader = os.open(self._reached, os.O_RDWR)
        try:
            if not select.select([reader], [], [], timeout_s)[0]:
                raise TimeoutError(f"nobody came to {self._reached.stem} within {timeout_s:g} s")
            return int(os.read(reader, 20))
        finally:
            os.close(reader)

    def open(self) -> None:
        """Let the process go on."""
        self._opened.write_text("open")


def note_inference(label: str) -> None:
    """Count one run of the model for the image `label` names."""
    with (directory() / "inferences").open("a") as file:
        file.write(label + "\n")


def inferences(directory: Path) -> list[str]:
    """Labels of all images the model ran on, in order."""
    path = directory / "inferences"
    return path.read_text().split() if path.exists() else []


def directory() -> Path:
    """The directory of this worker under test."""
    return Path(os.environ[DIRECTORY_VARIABLE])


def _wait_at(stage: str) -> None:
    (directory() / f"{stage}.reached").write_text(str(os.getpid()))
    (directory() / f"{stage}.opened").read_text()


def _carry_out(victim: str) -> None:
    if victim == "hang":
        while True:
            signal.pause()
    target = {"child": os.getpid, "parent": os.getppid, "engine": os.getpid}[victim]()
    os.kill(target, signal.SIGKILL)
    if victim == "parent":
        signal.pause()  # the child dies with its parent, and must not get any further
