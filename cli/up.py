"""`dropline up`: the whole cloud on this machine, until Ctrl-C. `demo` prints the same next commands."""

import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from importlib import resources
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import Annotated

import typer

from cli.download_progress import DownloadProgress
from cli.options import Model, PortBase
from dropline.demo_model import DEMO_MODEL, DEMO_NOTICE
from local_emulators.errors import ServiceDiedError, StartCancelledError
from local_emulators.options import StackOptions
from local_emulators.stack import Stack

_DEFAULT_DIRECTORY = Path(".local")
#: The image of the example commands.
_SAMPLE = "purple-star.png"
#: An example for the table of captions.
_QUERY = "SELECT object_name, caption FROM current_captions"


class Pubsub(StrEnum):
    """The Pub/Sub emulator of the stack."""

    OWN = "own"
    GOOGLE = "google"


def up(
    directory: Annotated[
        Path,
        typer.Option("--dir", help="State, logs and the `env` file. The same directory keeps rows and queue."),
    ] = _DEFAULT_DIRECTORY,
    port_base: PortBase = 18400,
    model: Model = DEMO_MODEL,
    concurrency: Annotated[int, typer.Option(help="Images the worker has in flight at once.", min=1)] = 4,
    pubsub: Annotated[
        Pubsub, typer.Option(help="Dropline's own Pub/Sub emulator, or Google's from the Cloud SDK.")
    ] = Pubsub.OWN,
    flower: Annotated[
        bool,
        typer.Option(
            "--flower",
            help="Start Flower too, with a password, and switch Celery's events on: an idle worker then sends "
            "commands all the time.",
        ),
    ] = False,
    database_url: Annotated[
        str | None, typer.Option(help="A Postgres of your own, with a user that may create roles.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis of your own, with maxmemory-policy noeviction.")
    ] = None,
) -> None:
    """Start everything on this machine: Postgres, Redis, Pub/Sub, storage, function, worker and gallery.

    The ports from --port-base on are, in this order: Postgres, Redis, storage (HTTP), storage (HTTPS, for gsutil),
    Pub/Sub, the function, the gallery, Flower. Ctrl-C stops everything; a second Ctrl-C does not wait.
    """
    options = StackOptions(
        directory=directory,
        port_base=port_base,
        model=model,
        concurrency=concurrency,
        pubsub="google" if pubsub is Pubsub.GOOGLE else "own",
        flower=flower,
        database_url=database_url,
        redis_url=redis_url,
    )
    run(Stack(options, announce=print_ready, progress=DownloadProgress()))


def run(stack: Stack) -> None:
    """Start the stack and keep it until a signal comes.

    Raises:
        ServiceDiedError: a service ended by itself; everything else has been stopped.
        LocalStackError: the stack could not start.
        SettingsError: the stack was not started, since a setting or a URL is wrong.
    """
    with _stopped_by_signals(stack):
        try:
            with stack:
                typer.echo(_instructions(stack))
                dead = stack.wait_for_death()
                if dead is None:
                    typer.echo("stopping …")
        except StartCancelledError:
            typer.echo("stopped before everything was ready")
            return
    if dead is not None:
        raise ServiceDiedError(f"{dead.describe_death()}\nEverything else has been stopped.")
    typer.echo("stopped")


@contextmanager
def _stopped_by_signals(stack: Stack) -> Iterator[None]:
    """The first signal cancels the stack, the second kills the processes."""
    # A signal handler must take no locks: the handler wakes a thread, and the thread stops the stack.
    signals: SimpleQueue[bool] = SimpleQueue()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        signals.put(True)

    def stop_stack() -> None:
        for stop in (stack.cancel, stack.kill):
            if not signals.get():
                return
            stop()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, on_signal) for number in numbers}
    thread = Thread(target=stop_stack, daemon=True)
    thread.start()
    try:
        yield
    finally:
        signals.put(False)
        thread.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def print_ready(name: str, address: str) -> None:
    """Print that a service is ready at its address."""
    typer.echo(f"{name:<9} ready  {address}")


def _instructions(stack: Stack) -> str:
    query = f"{shell_word('dropline')} sql {shlex.quote(_QUERY)}"
    commands = [*drop_lines(stack.directory.environment_file), query]
    lines = "".join(f"  {command}\n" for command in commands)
    notice = f"\n{DEMO_NOTICE}\n" if stack.options.model == DEMO_MODEL else ""
    gallery = f"\n{gallery_line(stack)}\n"
    earlier = f"\n{line}\n" if (line := earlier_rows_line(stack)) else ""
    notes = f"{notice}{earlier}{gallery}"
    return f"\nEverything is ready. In another terminal:\n\n{lines}{notes}\nCtrl-C stops everything."


def earlier_rows_line(stack: Stack) -> str:
    """How many rows have no object, and how to begin without them; empty without such rows."""
    count = stack.earlier_rows
    if not count:
        return ""
    rows, remedy = "1 row" if count == 1 else f"{count} rows", "use another database"
    if stack.options.database_url is None:
        remedy = f"stop, and remove {shlex.quote(_relative(stack.directory.path))}"
    return (
        f"{rows} of an earlier start {'has' if count == 1 else 'have'} no object: the bucket is in memory, and "
        f"the rows are on disk. The captions can still be read. To begin without them: {remedy}"
    )


def gallery_line(stack: Stack) -> str:
    """The address of the page with pictures and captions."""
    return f"The gallery, pictures and captions: {stack.gallery_url}"


def drop_lines(environment_file: Path) -> list[str]:
    """Shell commands for another terminal: two ways to drop a sample image into the running stack."""
    image = shlex.quote(_relative(sample_directory() / _SAMPLE))
    return [
        f"source {shlex.quote(_relative(environment_file))}",
        f"{shell_word('gsutil')} cp {image} gs://$DROPLINE_BUCKET/",
        f"{shell_word('dropline')} drop {image} --wait",
    ]


def sample_directory() -> Path:
    """The directory of the sample images."""
    return Path(str(resources.files("local_emulators"))) / "samples"


def shell_word(program: str) -> str:
    """The name of a program on PATH; else the path beside the running Python, as `.venv/bin/gsutil`."""
    beside = Path(sys.executable).with_name(program)
    if shutil.which(program) or not beside.exists():
        return program
    return shlex.quote(_relative(beside))


def _relative(path: Path) -> str:
    """The path relative to the working directory, if the path is below that directory."""
    if path.is_relative_to(Path.cwd()):
        path = path.relative_to(Path.cwd())
    return str(path)
