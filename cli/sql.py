"""`dropline sql`: one read-only SQL statement."""

import csv
import sys
from typing import Annotated

import typer

from cli.console import print_document, print_query_result, printable, value_text
from cli.json_text import rows_as_json
from db.read_only import StatementResult, run_read_only
from db.session import reader_settings
from dropline.errors import ClientError
from dropline.settings import load_settings


def sql(
    statement: Annotated[str, typer.Argument(help="One statement; the view `current_captions` is a good start.")],
    json: Annotated[bool, typer.Option("--json", help="Print a list of JSON objects.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV with a header line.")] = False,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Longest run of the statement, in seconds.")
    ] = 30,
) -> None:
    """Run one SQL statement, read only.

    The statement runs in a read-only transaction as the role dropline_reader (or as the login of DATABASE_URL,
    if the login may not act as dropline_reader). Exit code 2: Postgres refused the statement.

    JSON has a number for an integer and a finite float, and the text of Postgres for a numeric, a date, an
    interval, a bytea and every other type; NaN and infinity are strings. Of columns with the same name, the second
    becomes `name_2`.
    """
    if json and as_csv:
        raise ClientError("--json and --csv exclude each other; take one")
    result = run_read_only(reader_settings(load_settings()), statement, round(timeout * 1000))
    if json:
        print_document(rows_as_json(result.columns, result.rows))
    elif as_csv:
        _print_csv(result)
    elif result.columns:
        print_query_result(result.columns, result.rows)


def _print_csv(result: StatementResult) -> None:
    """Values are unchanged in files and pipes; a terminal gets no control characters."""
    clean = printable if sys.stdout.isatty() else str
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(map(clean, result.columns))
    writer.writerows([clean(value_text(value)) for value in row] for row in result.rows)
