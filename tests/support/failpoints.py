"""Crashes on demand, for tests: a token is a file; whoever removes it carries out what its name says.

Nothing of this is in the product. `failpoint_worker` wraps the product's functions with `hit`.
"""

import os
import signal
from pathlib import Path
from uuid import uuid4

#: Where tokens lie and where inferences are counted; set for worker processes under test.
DIRECTORY_VARIABLE = "FAILPOINT_DIRECTORY"


def arm(directory: Path, stage: str, victim: str, times: int = 1) -> None:
    """Let the next `times` passes through `stage` kill `victim`: `child`, `parent` or `engine`; `hang` blocks."""
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
        _carry_out(token.name.split(":")[1])
        return


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


def _carry_out(victim: str) -> None:
    if victim == "hang":
        while True:
            signal.pause()
    target = {"child": os.getpid, "parent": os.getppid, "engine": os.getpid}[victim]()
    os.kill(target, signal.SIGKILL)
    if victim == "parent":
        signal.pause()  # the child dies with its parent, and must not get any further
