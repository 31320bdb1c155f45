"""Crashes on demand, for tests: a token is a file; the process that removes the file carries out the named action.

The product contains no failpoints. `failpoint_worker` wraps the product's functions with `hit`.
"""

import os
import select
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

from dropline.errors import SettingsError

#: The directory of tokens and counted inferences; set for worker processes under test.
DIRECTORY_VARIABLE = "FAILPOINT_DIRECTORY"
#: Seconds of the model for a batch; 0 by default.
INFERENCE_VARIABLE = "FAILPOINT_INFERENCE_S"
_DYING = "engines-dying"


def arm(directory: Path, stage: str, victim: str, times: int = 1) -> None:
    """Let the next `times` passes through `stage` kill `victim`: `child`, `parent` or `engine`; `hang` blocks.

    `gate` blocks until the `Gate` of the stage is opened; `unusable` is an error of the settings.
    """
    for _ in range(times):
        (directory / f"{stage}:{victim}:{uuid4().hex}").touch()


def armed(directory: Path) -> list[str]:
    """Tokens not yet taken."""
    return sorted(path.name for path in directory.glob("*:*"))


def hit(stage: str) -> None:
    """Take a token of the stage, if any, and carry out the action."""
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
    """Holds the next process at a stage until `open`. A gate serves a single process."""

    def __init__(self, directory: Path, stage: str) -> None:
        self._reached, self._opened = directory / f"{stage}.reached", directory / f"{stage}.opened"
        os.mkfifo(self._reached)
        os.mkfifo(self._opened)
        arm(directory, stage, "gate")

    def wait(self, timeout_s: float) -> int:
        """The id of the process that the gate holds.

        Raises:
            TimeoutError: no process came.
        """
        # Opened for reading and writing: otherwise the FIFO would be readable before a process has written.
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


@contextmanager
def engines_dying(directory: Path) -> Iterator[None]:
    """Each engine dies on its next batch meanwhile, whatever the images, before the model runs."""
    file = directory / _DYING
    file.touch()
    try:
        yield
    finally:
        file.unlink()


def are_engines_dying() -> bool:
    """True within `engines_dying`."""
    return (directory() / _DYING).exists()


def end_engine(labels: Sequence[str] = ()) -> None:
    """Kill this engine, and note the images whose counted inferences are lost with it."""
    for label in labels:
        _append("lost", label)
    os.kill(os.getpid(), signal.SIGKILL)


def lost_with_engines(directory: Path) -> list[str]:
    """Labels of the images whose inferences were counted, and lost by `end_engine`."""
    return _lines(directory / "lost")


def note_inference(label: str) -> None:
    """Count a run of the model for the image named `label`."""
    _append("inferences", label)


def inferences(directory: Path) -> list[str]:
    """Labels of all images the model ran on, in order; one for each task."""
    return _lines(directory / "inferences")


def note_image(label: str) -> None:
    """Count a look of the model at the image named `label`, for any number of tasks."""
    _append("images", label)


def images(directory: Path) -> list[str]:
    """Labels of all images the model has looked at, in order; one for all tasks of a batch."""
    return _lines(directory / "images")


def note_engine() -> None:
    """Count a batch of this engine."""
    _append("engines", str(os.getpid()))


def engines(directory: Path) -> list[int]:
    """Process ids of the engines, one for each batch, in order."""
    return [int(line) for line in _lines(directory / "engines")]


def note_use(name: str) -> None:
    """Count a download or a decoding."""
    _append("uses", name)


def uses(directory: Path, name: str) -> int:
    """How often a worker has downloaded or decoded an object."""
    return _lines(directory / "uses").count(name)


def directory() -> Path:
    """The directory of the worker under test."""
    return Path(os.environ[DIRECTORY_VARIABLE])


def _lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def _append(name: str, line: str) -> None:
    with (directory() / name).open("a") as file:
        file.write(line + "\n")


def _wait_at(stage: str) -> None:
    (directory() / f"{stage}.reached").write_text(str(os.getpid()))
    (directory() / f"{stage}.opened").read_text()


def _carry_out(victim: str) -> None:
    if victim == "hang":
        # Billiard's signal of the soft time limit: code in a library may never see it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        while True:
            signal.pause()
    if victim == "unusable":
        raise SettingsError("the device cannot be used")
    target = {"child": os.getpid, "parent": os.getppid, "engine": os.getpid}[victim]()
    os.kill(target, signal.SIGKILL)
    if victim == "parent":
        signal.pause()  # the child dies with the parent, and must not get any further
