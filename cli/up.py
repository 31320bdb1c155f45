"""`dropline up`: the whole cloud on this machine, until Ctrl-C."""

import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from local_emulators.stack import Stack

_DEFAULT_DIRECTORY = Path(".local")
#: What a person asks first.
_QUERY = "SELECT object_name, caption FROM current_captions"


class Pubsub(StrEnum):
    """Which Pub/Sub emulator runs."""

    OWN = "own"
    GOOGLE = "google"


def up(
    directory: Annotated[
        Path,
        typer.Option("--dir", help="State, logs and the `env` file. The same directory keeps rows and queue."),
    ] = _DEFAULT_DIRECTORY,
    port_base: Annotated[
        int,
        typer.Option(help="First of seven consecutive ports on 127.0.0.1; 0 takes free ones.", min=0, max=65529),
    ] = 18400,
    model: Annotated[
        str,
        typer.Option(help="`demo`, `stub` (no model at all), or a Florence-2 checkpoint: hub name or directory."),
    ] = "demo",
    concurrency: Annotated[int, typer.Option(help="Images the worker has in flight at once.", min=1)] = 4,
    pubsub: Annotated[
        Pubsub, typer.Option(help="Dropline's own Pub/Sub emulator, or Google's from the Cloud SDK.")
    ] = Pubsub.OWN,
    database_url: Annotated[
        str | None, typer.Option(help="A Postgres of your own, with a user that may create roles.")
    ] = None,
    redis_url: Annotated[
        str | None, typer.Option(help="A Redis of your own, with maxmemory-policy noeviction.")
    ] = None,
) -> None:
    """Start everything on this machine: Postgres, Redis, Pub/Sub, Cloud Storage, the function and a worker.

    The ports from --port-base on are, in this order: Postgres, Redis, storage (HTTP), storage (HTTPS, for gsutil),
    Pub/Sub, the function, the gallery. Ctrl-C stops everything; a second Ctrl-C does not wait.
    """
    from local_emulators.options import StackOptions
    from local_emulators.stack import Stack

    options = StackOptions(
        directory=directory,
        port_base=port_base,
        model=model,
        concurrency=concurrency,
        pubsub="google" if pubsub is Pubsub.GOOGLE else "own",
        database_url=database_url,
        redis_url=redis_url,
    )
    run(Stack(options, announce=_print_ready))


def run(stack: "Stack") -> None:
    """Starts the stack and keeps it until a signal comes.

    Raises:
        ServiceDiedError: a service ended by itself; everything else has been stopped.
        LocalStackError: the stack could not start.
        SettingsError: the stack was not started, since a setting or a URL is wrong.
    """
    from local_emulators.errors import ServiceDiedError, StartCancelledError

    with _stop_requests(stack):
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
def _stop_requests(stack: "Stack") -> Iterator[None]:
    # A signal handler must take no locks, so it only passes the word on to a thread.
    requests: SimpleQueue[bool] = SimpleQueue()

    def ask(_number: int, _frame: FrameType | None) -> None:
        requests.put(True)

    def obey() -> None:
        for act in (stack.cancel, stack.kill):
            if not requests.get():
                return
            act()

    previous = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    obeying = Thread(target=obey, daemon=True)
    obeying.start()
    try:
        yield
    finally:
        requests.put(False)
        obeying.join()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _print_ready(name: str, place: str) -> None:
    typer.echo(f"{name:<9} ready  {place}")


def _instructions(stack: "Stack") -> str:
    from cli.instructions import DEMO_NOTICE, drop_lines, program
    from local_emulators.options import DEMO_MODEL

    query = f"{program('dropline')} sql {shlex.quote(_QUERY)}"
    lines = [*drop_lines(stack.directory.environment_file), query]
    shown = "".join(f"  {line}\n" for line in lines)
    notice = f"\n{DEMO_NOTICE}\n" if stack.options.model == DEMO_MODEL else ""
    return f"\nEverything is ready. In another terminal:\n\n{shown}{notice}\nCtrl-C stops everything."
