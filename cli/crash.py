"""The last resort of the command line: errors without a name of Dropline's, and streams that cannot be written.

The names of errors of a service, by `db`, `dropline.broker` and `dropline.storage`, are not replaced.
"""

import contextlib
import io
import os
import sys
import traceback
from pathlib import Path

from cli.exit_codes import ExitCode

#: Longest line about an unknown error, in characters.
_LONGEST_TEXT = 500


def prepare_streams() -> None:
    """Make standard output and standard error usable: closed ones are the null device, and no character fails.

    A terminal that cannot show a character gets its escape, as `\\xfc`.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - until the process ends
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def silence_stdout() -> None:
    """Send the rest of standard output to the null device: the interpreter's own flush at exit must not fail."""
    with contextlib.suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)


def explain(error: Exception) -> tuple[str, ExitCode]:
    """One line about an error without a name of Dropline's, and the exit code."""
    match error:
        case UnicodeEncodeError():
            return "an argument is not UTF-8; check its spelling and the shell's locale", ExitCode.USAGE
        case MemoryError():
            return "this machine's memory is too small for the result; select fewer rows", ExitCode.FAILED
        case RecursionError():
            return "the input is nested too deeply", ExitCode.FAILED
        case OSError(filename=str() | bytes() as name, strerror=str() as reason):
            return f"{os.fsdecode(name)} cannot be used: {reason}; check the path and its rights", ExitCode.FAILED
        case OSError():
            return f"the system refused: {error.strerror or error}; check disk, memory and output", ExitCode.FAILED
        case _:
            text = " ".join(f"unexpected {type(error).__name__}: {error}".split())[:_LONGEST_TEXT]
            return f"{text}; set DROPLINE_LOG__LEVEL=DEBUG to see where, and report it", ExitCode.FAILED


def print_traceback(error: BaseException) -> None:
    """Print the traceback on standard error, without the values of variables."""
    with contextlib.suppress(OSError):
        traceback.print_exception(error)
