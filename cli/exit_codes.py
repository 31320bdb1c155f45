"""What a command's exit code says; docs/cli.md has the same table."""

import enum

from dropline.errors import ClientError, DroplineError, InvalidTask, SettingsError, TransientError


class ExitCode(enum.IntEnum):
    """Exit codes of every command."""

    #: All that was asked for was done.
    OK = 0
    #: The work failed: an image has no caption, or a part of the local stack died.
    FAILED = 1
    #: The command line is wrong: an unknown option, a path that is not there, SQL that Postgres refuses.
    USAGE = 2
    #: A setting is missing or wrong.
    SETTINGS = 3
    #: Postgres, Redis or Cloud Storage cannot be reached.
    UNAVAILABLE = 4
    #: The time of `--timeout` was over first.
    TIMED_OUT = 124
    #: Ctrl-C.
    INTERRUPTED = 130


def code_of(error: DroplineError) -> ExitCode:
    """The exit code of a command that ended with this error."""
    if isinstance(error, SettingsError):
        return ExitCode.SETTINGS
    if isinstance(error, ClientError | InvalidTask):
        return ExitCode.USAGE
    return ExitCode.UNAVAILABLE if isinstance(error, TransientError) else ExitCode.FAILED
