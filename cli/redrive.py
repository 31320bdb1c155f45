"""`dropline redrive`: what was given up, back into the queue."""

import re
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json
from dropline.errors import ClientError, DatabaseUnavailable, DroplineError

if TYPE_CHECKING:
    from db.redrivable import RowFilter
    from operations.redrive import Kind, Redriver

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

    A row has to pass every filter that is given. It needs the function's login (DROPLINE_DATABASE__URL) and Redis.
    Exit code 4: Postgres, Redis or Cloud Run is away, and the rows that were not sent are as before.
    """
    from cli.console import note
    from dropline.log import configure_logging
    from dropline.settings import load_settings
    from operations.redrive import BATCH, FAILED, UNWRITTEN, open_redriver

    kind = UNWRITTEN if metadata else FAILED
    _refuse_what_is_never_sent(kind, error_code or [])
    row_filter = _row_filter(uris or [], error_code or [], bucket, prefix, since)
    _require_a_choice(row_filter, every=every)
    settings = load_settings()

    def report(done: int) -> None:
        if done >= BATCH:
            note(f"{done} rows queued")

    with open_redriver(settings, kind, report, note) as redriver:
        configure_logging(settings.log.level, settings.log.format, "redrive")
        (_preview if dry_run else _redrive)(redriver, row_filter, limit, as_json=json)


def _preview(redriver: "Redriver", row_filter: "RowFilter", limit: int | None, *, as_json: bool) -> None:
    found = redriver.count(row_filter)
    would = redriver.count_redrivable(row_filter, limit)
    _print(redriver.kind, found, would, None, as_json=as_json)
    _note_what_there_is(redriver, found)


def _redrive(redriver: "Redriver", row_filter: "RowFilter", limit: int | None, *, as_json: bool) -> None:
    found = redriver.count(row_filter)
    failure: DroplineError | None = None
    with redriver.interrupts.caught():
        try:
            redriver.redrive(row_filter, limit)
        except DroplineError as error:
            failure = error
    # What could be sent is told all the same; without Postgres the failure alone.
    with suppress(DatabaseUnavailable) if failure else nullcontext():
        _print(redriver.kind, found, redriver.redriven, redriver.count(row_filter), as_json=as_json)
    if failure is not None:
        raise failure
    _note_what_there_is(redriver, found)


def _row_filter(uris: list[str], codes: list[str], bucket: str, prefix: str, since: str) -> "RowFilter":
    from cli.wait import parse_uri
    from db.redrivable import RowFilter

    if bucket.startswith("gs://"):
        raise ClientError(f"--bucket {bucket!r}: give the bucket's name alone, without gs://")
    moment = parse_since(since, datetime.now(UTC)) if since else None
    return RowFilter(tuple(map(parse_uri, uris)), tuple(codes), bucket, prefix, moment)


def _refuse_what_is_never_sent(kind: "Kind", codes: list[str]) -> None:
    if never := sorted(set(codes) & set(kind.rows.excluded_codes)):
        raise ClientError(f"{', '.join(never)}: {kind.why_excluded}")


def _require_a_choice(row_filter: "RowFilter", *, every: bool) -> None:
    filtered = bool(
        row_filter.objects or row_filter.error_codes or row_filter.bucket or row_filter.prefix or row_filter.since
    )
    if not filtered and not every:
        raise ClientError(
            "which rows? Name objects, or give --error-code, --bucket, --prefix or --since; --all takes all"
        )
    if filtered and every:
        raise ClientError("--all and a filter exclude each other; take one")


def parse_since(text: str, now: datetime) -> datetime:
    """A time in ISO 8601, UTC where it says nothing else, or an age as `90m`.

    Raises:
        ClientError: neither, or it is still to come.
    """
    if age := _AGE.fullmatch(text):
        return now - timedelta(**{_UNITS[age["unit"]]: int(age["count"])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ClientError(
            f"--since {text!r} is no time; write 90m, 2h, 7d, or 2026-11-22T14:00Z (UTC where no zone is given)"
        ) from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment > now:
        raise ClientError(f"--since {text!r} is still to come, so nothing can have failed since")
    return moment


def _print(
    kind: "Kind",
    before: Mapping[str, int],
    redriven: Mapping[str, int],
    after: Mapping[str, int] | None,
    *,
    as_json: bool,
) -> None:
    """`after` is None where nothing was to be changed."""
    from cli.console import print_json, print_line, print_table

    column = "would be redriven" if after is None else "redriven"
    rows = [
        {"error code": code, f"{kind.name} before": before.get(code, 0), column: redriven.get(code, 0)}
        | ({} if after is None else {f"{kind.name} after": after.get(code, 0)})
        for code in dict.fromkeys([*before, *redriven, *(after or {})])
    ]
    if as_json:
        total = {"dry_run": after is None, _key(column): sum(redriven.values())}
        print_json(total | {"error_codes": [{_key(name): value for name, value in row.items()} for row in rows]})
    elif rows:
        print_table(list(rows[0]), (list(row.values()) for row in rows))
    else:
        print_line(f"no {kind.name} row fits")
    _note_what_stays(kind, before)


def _note_what_there_is(redriver: "Redriver", found: Mapping[str, int]) -> None:
    """A filter that lets nothing pass may be misspelt."""
    from cli.console import note
    from db.redrivable import RowFilter

    if not found and (codes := redriver.count(RowFilter())):
        there = ", ".join(f"{rows} {code}" for code, rows in codes.items())
        note(f"{redriver.kind.name} rows there are: {there}")


def _key(column: str) -> str:
    return column.replace(" ", "_")


def _note_what_stays(kind: "Kind", before: Mapping[str, int]) -> None:
    from cli.console import note

    if stay := sum(before.get(code, 0) for code in kind.rows.excluded_codes):
        note(f"{stay} of them stay {kind.name}, with {', '.join(kind.rows.excluded_codes)}: {kind.why_excluded}")
