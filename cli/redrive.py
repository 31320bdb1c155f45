"""`dropline redrive`: failed rows, or captions without a copy in the metadata, back into the queue."""

import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from cli.console import print_json, print_line, print_note, print_table
from cli.options import Json
from db.reads import MOST_COUNTED
from db.redrivable import RowFilter
from dropline.contract import parse_uri
from dropline.errors import ClientError, DatabaseUnavailable, DroplineError
from dropline.log import configure_logging
from dropline.settings import load_settings
from operations.redrive import BATCH, FAILED, UNWRITTEN, Kind, Redriver, open_redriver

_AGE = re.compile(r"(?P<count>\d{1,4})(?P<unit>[smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def redrive(
    uris: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[gs://BUCKET/NAME[#GENERATION]]…",
            help="Objects. Without a generation: every version of them.",
            show_default=False,
        ),
    ] = None,
    error_code: Annotated[
        list[str] | None,
        typer.Option(metavar="CODE", help="Rows with this error code; may be given several times."),
    ] = None,
    bucket: Annotated[str, typer.Option(help="Rows of this bucket.")] = "",
    prefix: Annotated[str, typer.Option(help="Rows of objects whose names begin with this prefix.")] = "",
    since: Annotated[
        str,
        typer.Option(
            metavar="TIME",
            help=(
                "Rows given up since then: `90m`, `2h`, `7d` ago, or a time as `2026-11-22T14:00Z` "
                "(UTC without a zone)."
            ),
        ),
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many rows, oldest first.")] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--all",
            help="All such rows; required without objects and filters, for a dry run too. `--limit` is no filter.",
        ),
    ] = False,
    metadata: Annotated[
        bool,
        typer.Option(
            "--metadata",
            help="Instead of failed rows: captions that did not reach their object. The model does not run again.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the rows; change nothing.")] = False,
    json: Json = False,
) -> None:
    """Queue failed rows again, with all their attempts; put the cause right first.

    A row has to pass every given filter. The command needs the function's login (DROPLINE_DATABASE__URL) and
    Redis. Exit code 4: Postgres, Redis or Cloud Run is unavailable, and the rows not sent are as before.
    """
    kind = UNWRITTEN if metadata else FAILED
    _refuse_excluded_codes(kind, error_code or [])
    row_filter = _row_filter(uris or [], error_code or [], bucket, prefix, since)
    _require_filter_or_all(row_filter, every=every)
    settings = load_settings()

    def report(done: int) -> None:
        if done >= BATCH:
            print_note(f"{done} rows queued")

    with open_redriver(settings, kind, report, print_note) as redriver:
        configure_logging(settings.log.level, settings.log.format, "redrive")
        if dry_run:
            _preview(redriver, row_filter, limit, as_json=json)
        else:
            _redrive(redriver, row_filter, limit, as_json=json)


def _row_filter(uris: list[str], codes: list[str], bucket: str, prefix: str, since: str) -> RowFilter:
    if bucket.startswith("gs://"):
        raise ClientError(f"--bucket {bucket!r}: give the bucket's name alone, without gs://")
    moment = parse_since(since, datetime.now(UTC)) if since else None
    return RowFilter(tuple(map(parse_uri, uris)), tuple(codes), bucket, prefix, moment)


def parse_since(text: str, now: datetime, option: str = "--since") -> datetime:
    """A time in ISO 8601 (UTC without a zone), or an age as `90m`.

    Raises:
        ClientError: neither, or a time after `now`.
    """
    if age := _AGE.fullmatch(text):
        return now - timedelta(**{_UNITS[age["unit"]]: int(age["count"])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ClientError(
            f"{option} {text!r} is not a time; write 90m, 2h, 7d, or 2026-11-22T14:00Z (UTC without a zone)"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise ClientError(f"{option} {text!r} is in the future; give a time that has passed")
    return moment


def _refuse_excluded_codes(kind: Kind, codes: list[str]) -> None:
    if excluded := sorted(set(codes) & set(kind.rows.excluded_codes)):
        raise ClientError(f"{', '.join(excluded)}: {kind.why_excluded}")


def _require_filter_or_all(row_filter: RowFilter, *, every: bool) -> None:
    is_filtered = row_filter != RowFilter()
    if not is_filtered and not every:
        raise ClientError(
            "which rows? Name objects, or give --error-code, --bucket, --prefix or --since; --all takes all"
        )
    if is_filtered and every:
        raise ClientError("--all and a filter exclude each other; take one")


def _preview(redriver: Redriver, row_filter: RowFilter, limit: int | None, *, as_json: bool) -> None:
    before = redriver.count(row_filter)
    redrivable = redriver.count_redrivable(row_filter, limit)
    _print_counts(redriver.kind, before, redrivable, None, as_json=as_json)
    _note_existing_codes(redriver, before)


def _redrive(redriver: Redriver, row_filter: RowFilter, limit: int | None, *, as_json: bool) -> None:
    before = redriver.count(row_filter)
    failure: DroplineError | None = None
    try:
        redriver.redrive(row_filter, limit)
    except DroplineError as error:
        failure = error
    # After a failure the rows redriven so far are printed too, unless Postgres is unavailable.
    with suppress(DatabaseUnavailable) if failure else nullcontext():
        _print_counts(redriver.kind, before, redriver.redriven, redriver.count(row_filter), as_json=as_json)
    if failure is not None:
        raise failure
    _note_existing_codes(redriver, before)


def _print_counts(
    kind: Kind,
    before: Mapping[str, int],
    redriven: Mapping[str, int],
    after: Mapping[str, int] | None,
    *,
    as_json: bool,
) -> None:
    """Print the numbers of rows by error code; `after` is None in a dry run."""
    redriven_column = "would be redriven" if after is None else "redriven"
    rows = []
    for code in dict.fromkeys([*before, *redriven, *(after or {})]):
        row = {
            "error code": code,
            f"{kind.name} before": before.get(code, 0),
            redriven_column: redriven.get(code, 0),
        }
        if after is not None:
            row[f"{kind.name} after"] = after.get(code, 0)
        rows.append(row)
    if as_json:
        total = {"dry_run": after is None, _key(redriven_column): sum(redriven.values())}
        print_json(total | {"error_codes": [{_key(name): value for name, value in row.items()} for row in rows]})
    elif rows:
        print_table(list(rows[0]), (list(row.values()) for row in rows))
    else:
        print_line(f"no {kind.name} row matches")
    _note_excluded_rows(kind, before)
    if sum(before.values()) == MOST_COUNTED:
        print_note(
            f"{MOST_COUNTED} {kind.name} rows or more match; no more than that are counted before and after"
        )


def _key(column: str) -> str:
    return column.replace(" ", "_")


def _note_existing_codes(redriver: Redriver, found: Mapping[str, int]) -> None:
    """Print the codes of the existing rows after an empty result: a filter may be misspelt."""
    if not found and (codes := redriver.count(RowFilter())):
        listed = ", ".join(f"{rows} {code}" for code, rows in codes.items())
        print_note(f"existing {redriver.kind.name} rows: {listed}")


def _note_excluded_rows(kind: Kind, before: Mapping[str, int]) -> None:
    if excluded := sum(before.get(code, 0) for code in kind.rows.excluded_codes):
        codes = ", ".join(kind.rows.excluded_codes)
        print_note(f"{excluded} of them stay {kind.name}, with {codes}: {kind.why_excluded}")
