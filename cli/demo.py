"""`dropline demo`: the whole stack, sample images, their captions, and a few queries."""

import contextlib
import signal
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from cli.exit_codes import ExitCode
from dropline.errors import LocalStackError

if TYPE_CHECKING:
    from cli.demonstration import Verdict
    from local_emulators.stack import Stack

_DEFAULT_DIRECTORY = Path(".local")


def demo(
    directory: Annotated[
        Path, typer.Option("--dir", help="State, logs and the `env` file of the stack.")
    ] = _DEFAULT_DIRECTORY,
    port_base: Annotated[
        int,
        typer.Option(help="First of seven consecutive ports on 127.0.0.1; 0 takes free ones.", min=0, max=65529),
    ] = 18400,
    model: Annotated[
        str, typer.Option(help="`demo`, `stub` (no model at all), or a Florence-2 checkpoint.")
    ] = "demo",
    end: Annotated[
        bool,
        typer.Option("--exit", help="End when all is shown: 0 if every sample got the right caption, else 1."),
    ] = False,
) -> None:
    """Start everything on this machine, caption sample images and query the rows; then keep running until Ctrl-C.

    The demo model is small and only knows drawn shapes; `--model` takes a real Florence-2 checkpoint.
    """
    from cli.console import print_line
    from cli.instructions import DEMO_NOTICE
    from local_emulators.options import DEMO_MODEL, StackOptions
    from local_emulators.stack import Stack

    signal.signal(signal.SIGTERM, _interrupt)
    options = StackOptions(directory=directory, port_base=port_base, model=model)
    if model == DEMO_MODEL:
        print_line(DEMO_NOTICE)
        print_line()
    with Stack(options, announce=lambda name, place: print_line(f"{name:<9} ready  {place}")) as stack:
        show = _Show(stack)
        verdict = show.run(knows_samples=model == DEMO_MODEL)
        _print_verdict(verdict)
        if not end:
            show.go_on(lambda: _print_instructions(stack))
            print_line("stopping …")
    raise typer.Exit(ExitCode.OK if verdict.good else ExitCode.FAILED)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


class _Show:
    """Whatever happens first: the demonstration ends, or a service dies. Ctrl-C interrupts both."""

    def __init__(self, stack: "Stack") -> None:
        self._stack = stack
        self._news: SimpleQueue[Verdict | BaseException] = SimpleQueue()
        Thread(target=self._watch, daemon=True, name="deaths").start()

    def run(self, *, knows_samples: bool) -> "Verdict":
        """The demonstration; raises what it raises, or LocalStackError where a service dies first."""
        Thread(target=self._demonstrate, args=(knows_samples,), daemon=True, name="demonstration").start()
        news = self._news.get()
        if isinstance(news, BaseException):
            raise news
        return news

    def go_on(self, invite: Callable[[], None]) -> None:
        """Until Ctrl-C, which may come during `invite` already; raises LocalStackError where a service dies."""
        with contextlib.suppress(KeyboardInterrupt):
            invite()
            news = self._news.get()
            assert isinstance(news, BaseException)
            raise news

    def _demonstrate(self, knows_samples: bool) -> None:
        from cli.demonstration import demonstrate

        try:
            self._news.put(demonstrate(self._stack.environment, knows_samples=knows_samples))
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for it
            self._news.put(error)

    def _watch(self) -> None:
        dead = self._stack.wait_for_death()
        if dead is not None:
            self._news.put(LocalStackError(f"{dead.describe_death()}\nEverything else has been stopped."))


def _print_verdict(verdict: "Verdict") -> None:
    from cli.console import print_line

    right = "" if verdict.right is None else f", {verdict.right} of {verdict.samples} captions are right"
    print_line()
    print_line(f"{verdict.arrived} of {verdict.samples} samples have a caption{right}.")


def _print_instructions(stack: "Stack") -> None:
    from cli.console import print_line
    from cli.instructions import drop_lines, program

    print_line()
    print_line("Drop an image of your own, from another terminal:")
    print_line()
    for line in (*drop_lines(stack.directory.environment_file), f"{program('dropline')} watch"):
        print_line(f"    {line}")
    print_line()
    print_line("Ctrl-C stops everything.")
