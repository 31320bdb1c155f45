"""`dropline down`: stops a running `up` or `demo` from another terminal."""

from pathlib import Path
from typing import Annotated

import typer

from cli.console import print_line, print_note
from local_emulators.directory import StackDirectory


def down(
    directory: Annotated[Path, typer.Option("--dir", help="The directory of the stack.")] = Path(".local"),
) -> None:
    """Stop the local stack of a directory, from any terminal.

    Sends SIGTERM to the `dropline up` or `dropline demo` that uses the directory, and returns when all services
    have stopped. The rows and the queue stay in the directory.
    """
    if StackDirectory(directory).stop_user():
        print_line("stopped")
    else:
        print_note(f"no local stack runs in {directory}")
