"""Ctrl-C of a command that waits for a service: the command ends soon, in any wait of a library.

An executor joins its threads at the end of the process, psycopg waits for the answer to a cancelled statement, and
a name is resolved outside of Python: none of them returns while a service is silent.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperCommand

from cli.console import print_note
from cli.exit_codes import ExitCode

#: Time for the command to close its connections after Ctrl-C, in seconds.
_GRACE_S = 1.0
_WORDS = "interrupted"
#: Progress bars hide the cursor of a terminal.
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"


class PromptCommand(TyperCommand):
    """A command that ends within `_GRACE_S` after Ctrl-C, with one line and exit code 130."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with ending_soon_after_ctrl_c():
            return super().invoke(ctx)


@contextmanager
def ending_soon_after_ctrl_c() -> Iterator[None]:
    """After Ctrl-C in the block, the process ends within `_GRACE_S`, or earlier by itself; once with one line."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals reach the main thread alone
        return
    line = _Line()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    # A byte of each signal arrives at once, also while the main thread is inside a function of C.
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_end_after_signal, args=(reader, line), daemon=True, name="ctrl-c").start()
    try:
        yield
    except KeyboardInterrupt:
        line.print()
        raise
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)


@contextmanager
def remark_after_ctrl_c(words: Callable[[], str]) -> Iterator[None]:
    """After Ctrl-C in the block, print `words()` as a note: the state in which the command leaves its work."""
    try:
        yield
    except KeyboardInterrupt:
        print_note(words())
        raise


class _Line:
    """The one line, printed by the first of two threads."""

    def __init__(self) -> None:
        self._is_free = threading.Lock()

    def print(self) -> None:
        """Print the line as every remark."""
        if self._is_free.acquire(blocking=False):
            print_note(_WORDS)

    def force(self) -> None:
        """Write the line past the console: the main thread may hold the console's lock."""
        if self._is_free.acquire(blocking=False):
            os.write(2, f"{_SHOW_CURSOR if sys.stderr.isatty() else ''}{_WORDS}\n".encode())


def _end_after_signal(reader: int, line: _Line) -> None:
    """End the process after SIGINT; return where the block has ended without one."""
    with open(reader, "rb", buffering=0) as signals:
        while signal.SIGINT not in (numbers := signals.read(64)):
            if not numbers:
                return
    time.sleep(_GRACE_S)
    line.force()
    os._exit(ExitCode.INTERRUPTED)
