"""The exit codes of the commands; docs/cli.md has the same table."""

import enum

from dropline.errors import (
    ClientError,
    DroplineError,
    ForeignBucket,
    InvalidTask,
    ObjectFiltered,
    SettingsError,
    TransientError,
)


class ExitCode(enum.IntEnum):
    """Exit codes of every command."""

    #: The command succeeded.
    OK = 0
    #: The work failed: an image has no caption, or a service of the local stack died.
    FAILED = 1
    #: The command line is wrong: an unknown option, a missing path, SQL that Postgres refuses.
    USAGE = 2
    #: A setting is missing or wrong.
    SETTINGS = 3
    #: Postgres, Redis, Cloud Storage or Cloud Run cannot be reached.
    UNAVAILABLE = 4
    #: A rule of the function's settings filtered an object, which therefore gets no caption.
    FILTERED = 5
    #: The time of `--timeout` ran out.
    TIMED_OUT = 124
    #: Ctrl-C.
    INTERRUPTED = 130
    #: The reader of the output ended first, as in `dropline sql … | head`; like a program that SIGPIPE ends.
    CLOSED_PIPE = 141


def code_of(error: DroplineError) -> ExitCode:
    """The exit code of a command that ended with an error."""
    if isinstance(error, SettingsError):
        return ExitCode.SETTINGS
    if isinstance(error, ObjectFiltered):
        return ExitCode.FILTERED
    if isinstance(error, ClientError | ForeignBucket | InvalidTask):
        return ExitCode.USAGE
    return ExitCode.UNAVAILABLE if isinstance(error, TransientError) else ExitCode.FAILED
