"""The command `dropline`: the table of commands, each loaded when called, and the handling of errors."""

import sys
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from cli.console import print_error, print_error_lines
from cli.crash import explain, prepare_streams, print_traceback, silence_stdout
from cli.exit_codes import ExitCode, code_of
from cli.interrupt import PromptCommand
from dropline.errors import DroplineError, LocalStackError

#: The commands in the order of `dropline --help`, each with the first line of its help. The command NAME is the
#: function NAME of the module `cli.NAME`; the line is repeated here so that a list of commands imports no command.
COMMANDS = {
    "up": "Start everything on this machine: Postgres, Redis, Pub/Sub, storage, function, worker and gallery.",
    "down": "Stop the local stack of a directory, from any terminal.",
    "demo": (
        "Start everything on this machine, caption sample images and query the rows; "
        "then keep running until Ctrl-C."
    ),
    "drop": "Upload images to the bucket.",
    "caption": "Caption images and print the answers: files, addresses, objects of the bucket, or standard input.",
    "wait": "Wait for objects that are in the bucket already, and print their captions.",
    "watch": (
        "Show every change of a row as it happens, with its caption, and every filtered object, until Ctrl-C."
    ),
    "status": (
        "Count rows by status, failures by reason, filtered events by rule; show the rate, workers and the queue."
    ),
    "search": "Find captions by their words, the newest first or the best first.",
    "search-language": "Show the language in which captions are searched, or change it.",
    "export": "Export captions: rows as lines, a table or COCO, or a text file beside each image.",
    "sql": "Run one SQL statement, read only.",
    "gallery": "Serve the page and the API until Ctrl-C; `dropline gallery token NAME` makes a token instead.",
    "backfill": "Caption the objects that are in a bucket already, behind fresh drops.",
    "reconcile": "Compare a bucket with the table, both ways; `--fix` repairs the differences.",
    "recaption": (
        "Caption rows of another model or revision again; the old caption stays until the new one is there."
    ),
    "edit": "Replace a caption by a person's, in Postgres and in the object's metadata.",
    "edits": "Show the latest captions that people have written: when, who, and of which object.",
    "cloud": "Check a project in Google Cloud before a deployment, reading only: `dropline cloud check`.",
    "redrive": "Queue failed rows again, with all their attempts; put the cause right first.",
}
#: Commands that stop processes after Ctrl-C, for as long as it takes.
_SUPERVISORS = frozenset({"up", "demo", "gallery"})
_EPILOGUE = (
    "Exit codes: 0 done, 1 the work failed, 2 wrong command line, 3 wrong settings, 4 a service is away, "
    "5 filtered by a rule, 124 timed out, 130 Ctrl-C, 141 the reader of the output ended."
)


def load_command(name: str) -> TyperCommand:
    """Import the module of a command and build the command from its function; a hyphen is an underscore there."""
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    kind = TyperCommand if name in _SUPERVISORS else PromptCommand
    function = name.replace("-", "_")
    application.command(name, cls=kind)(getattr(import_module(f"cli.{function}"), function))
    command = typer.main.get_command(application)
    assert isinstance(command, TyperCommand)
    return command


class LazyGroup(TyperGroup):
    """Lists commands from the table, and imports a command only to run it or to complete its options."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, summary in COMMANDS.items():
            self.add_command(TyperCommand(name, help=summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, TyperCommand | None, list[str]]:
        """Replace the entry of the table by the command itself."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load_command(name), rest

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line; an error without a name of Dropline's ends with one line too."""
        try:
            try:
                return super().main(*args, **kwargs)
            finally:
                # Here, not at the interpreter's exit: a full disk is an error of the command.
                sys.stdout.flush()
        except BrokenPipeError:
            silence_stdout()
            sys.exit(ExitCode.CLOSED_PIPE)
        except Exception as error:  # noqa: BLE001 - the last resort
            silence_stdout()
            _end_with(error)

    def invoke(self, ctx: Any) -> Any:
        """Turn Dropline's own errors, Ctrl-C and a closed pipe into a message and an exit code."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            # `dropline sql … | head`: the reader has read enough.
            silence_stdout()
            raise typer.Exit(ExitCode.CLOSED_PIPE) from None
        except LocalStackError as error:
            print_error_lines(str(error))
            raise typer.Exit(code_of(error)) from None
        except DroplineError as error:
            print_error(str(error))
            raise typer.Exit(code_of(error)) from None
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.INTERRUPTED) from None


def _is_debugging() -> bool:
    """True if the settings ask for lines of level DEBUG."""
    # Slow to import, and `--help` does not need it.
    from dropline.settings import load_settings

    try:
        return load_settings().log.level == "DEBUG"
    except Exception:  # noqa: BLE001 - wrong settings may be the cause of the error
        return False


def _end_with(error: Exception) -> NoReturn:
    message, code = explain(error)
    if _is_debugging():
        print_traceback(error)
    print_error(message)
    sys.exit(code)


app = typer.Typer(
    cls=LazyGroup,
    epilog=_EPILOGUE,
    no_args_is_help=True,
    # Tracebacks with local variables would show passwords.
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        # Slow to import, and only `--version` needs it.
        from importlib import metadata

        typer.echo(f"dropline {metadata.version('dropline')}")
        raise typer.Exit


@app.callback()
def dropline(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Drop an image into a bucket; seconds later its caption is object metadata and a row in Postgres.

    Settings come from the environment (docs/settings.md); for the local stack: `source .local/env`.
    """


def main() -> None:
    """Run the command line; the console script."""
    prepare_streams()
    app()
