"""`dropline status`: what is queued, what is done, what failed and why."""

from contextlib import closing
from typing import TYPE_CHECKING, Any

import typer

from cli.exit_codes import ExitCode
from cli.options import Json

if TYPE_CHECKING:
    from dropline.settings import BrokerSettings, DatabaseSettings

#: Minutes over which the rate is taken.
_RATE_MINUTES = 5


def status(json: Json = False) -> None:
    """Count rows by status and failures by reason; show the rate, the oldest queued row and the queue on Redis.

    The queue is shown where DROPLINE_BROKER__URL is set. Exit code 4: Postgres or Redis cannot be reached.
    """
    from cli.console import complain, print_json
    from db.session import reader_settings
    from dropline.settings import load_settings

    settings = load_settings()
    document = _of_database(reader_settings(settings))
    queues, error = _of_broker(settings.broker)
    document["queues"] = queues
    if json:
        print_json(document)
    else:
        _print(document)
    if error:
        complain(error)
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _of_database(settings: "DatabaseSettings") -> dict[str, Any]:
    from db import reads
    from db.session import Database

    with (
        closing(Database.connect(settings, "dropline-status", connections=1)) as database,
        database.transaction() as connection,
    ):
        throughput = reads.throughput(connection, _RATE_MINUTES)
        return {
            "rows": reads.status_counts(connection),
            "oldest_queued_s": throughput.oldest_queued_s,
            "captions_per_minute": throughput.captions_per_minute,
            "failures": [each.document() for each in reads.failures(connection)],
        }


def _of_broker(settings: "BrokerSettings") -> tuple[dict[str, int] | None, str | None]:
    """Messages by queue, None where no broker is configured; and what went wrong."""
    if not settings.url.get_secret_value():
        return None, None
    from dropline.broker.lengths import read_lengths
    from dropline.contract import CAPTION_QUEUE, RECOVERY_QUEUE
    from dropline.errors import BrokerUnavailable

    try:
        found = read_lengths(settings)
    except BrokerUnavailable as error:
        return None, str(error)
    lengths = {CAPTION_QUEUE: found.captions, RECOVERY_QUEUE: found.recoveries}
    return lengths | {"handed out": found.unacknowledged}, None


def _print(document: dict[str, Any]) -> None:
    from cli.console import print_line, print_table
    from cli.results import status_cell

    print_table(("status", "rows"), ((status_cell(name), rows) for name, rows in document["rows"].items()))
    if document["failures"]:
        columns = ("rows", "failed because", "for example")
        print_table(
            columns, ((each["rows"], each["error_code"], each["example"]) for each in document["failures"])
        )
    if document["oldest_queued_s"] is not None:
        print_line(f"the oldest queued row has waited {document['oldest_queued_s']:.0f} s")
    rate = document["captions_per_minute"]
    print_line(f"{rate:.1f} captions per minute over the last {_RATE_MINUTES} minutes")
    if document["queues"] is not None:
        print_line("on Redis: " + ", ".join(f"{name} {count}" for name, count in document["queues"].items()))
