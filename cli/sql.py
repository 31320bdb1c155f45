"""`dropline sql`: ask the captions table anything; change nothing."""

import csv
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dropline.errors import ClientError

if TYPE_CHECKING:
    from db.read_only import StatementResult


def sql(
    statement: Annotated[str, typer.Argument(help="One statement; the view `current_captions` is a good start.")],
    json: Annotated[bool, typer.Option("--json", help="Print a list of JSON objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header line.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Longest run of the statement, in seconds.")
    ] = 30,
) -> None:
    """Run one SQL statement, read only.

    It runs in a read-only transaction as the role dropline_reader (or as the login of DATABASE_URL, where that may
    not become the reader). Exit code 2: Postgres refused the statement.
    """
    from cli.console import print_answer, print_json
    from db.read_only import run_read_only
    from db.session import reader_settings
    from dropline.settings import load_settings

    if json and as_csv:
        raise ClientError("--json and --csv exclude each other; take one")
    result = run_read_only(reader_settings(load_settings()), statement, round(timeout * 1000))
    if json:
        print_json([dict(zip(result.columns, row, strict=True)) for row in result.rows])
    elif as_csv:
        _print_csv(result)
    elif result.columns:
        print_answer(result.columns, result.rows)


def _print_csv(result: "StatementResult") -> None:
    """As it is into files and pipes; a terminal gets no control characters."""
    from cli.console import plain_value, printable

    clean = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(clean, result.columns))
    writer.writerows([clean(plain_value(value)) for value in row] for row in result.rows)
