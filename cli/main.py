"""The command `dropline`: its commands, and what becomes of their errors."""

from typing import Any

import typer
from typer.core import TyperGroup

from cli import demo, drop, redrive, sql, status, up, wait, watch
from cli.console import complain, complain_at_length
from cli.exit_codes import ExitCode, code_of
from dropline.errors import DroplineError, LocalStackError

_HELP = """Drop an image into a bucket; seconds later its caption is object metadata and a row in Postgres.

Settings come from the environment (docs/settings.md); for the local stack: `source .local/env`.
"""
_EPILOGUE = (
    "Exit codes: 0 done, 1 the work failed, 2 wrong command line, 3 wrong settings, 4 a service is away, "
    "124 timed out, 130 Ctrl-C."
)


class _Commands(TyperGroup):
    """Turns the errors we know into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DroplineError as error:
            (complain_at_length if isinstance(error, LocalStackError) else complain)(str(error))
            raise typer.Exit(code_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


app = typer.Typer(
    cls=_Commands,
    help=_HELP,
    epilog=_EPILOGUE,
    no_args_is_help=True,
    add_completion=False,
    # Tracebacks with local variables would show passwords.
    pretty_exceptions_enable=False,
)
for _module in (up, demo, drop, wait, watch, status, sql, redrive):
    _module.register(app)


def main() -> None:
    """The console script."""
    app()
