"""`dropline status`: rows by status, failures by error code, filtered events, the rate, workers, the queue."""

from contextlib import closing
from typing import Any

import typer

from cli.console import print_error, print_json, print_line, print_table, value_text
from cli.exit_codes import ExitCode
from cli.options import Json
from cli.results import status_text
from db import breakers, filtered, pool_problems, reads, workers
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.broker.lengths import read_lengths
from dropline.contract import CAPTION_QUEUE
from dropline.errors import BrokerUnavailable
from dropline.settings import BrokerSettings, DatabaseSettings, load_settings
from operations.workers import Availability, WorkerState, availability

#: The rate is the mean of this many minutes.
_RATE_MINUTES = 5
_WORKER_COLUMNS = ("host", "model", "model_revision", "device", "largest_batch", "started_at")


def status(json: Json = False) -> None:
    """Count rows by status, failures by reason, filtered events by rule; show the rate, workers and the queue.

    Counting ends at 10,000 rows of a status, and of an error code: the table may have many millions.

    Alive workers and the queue are on Redis, and shown where DROPLINE_BROKER__URL is set. Exit code 4: Postgres or
    Redis cannot be reached.
    """
    settings = load_settings()
    document = _read_database(reader_settings(settings))
    error = None
    try:
        document["queues"] = _read_queues(settings.broker)
        found = availability(settings)
    except BrokerUnavailable as unavailable:
        # Redis alone is unavailable: the counts of the table are printed all the same.
        document["queues"], error = None, str(unavailable)
        found = Availability(WorkerState.NOT_KNOWN, reason="Redis is unavailable")
    document["workers"] = _workers_document(found, document.pop("newest_worker"), document.pop("open_breakers"))
    if json:
        print_json(document)
    else:
        _print(document)
    if error:
        print_error(error)
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _read_database(settings: DatabaseSettings) -> dict[str, Any]:
    with (
        closing(Database.connect(settings, "dropline-status", READER, connections=1)) as database,
        database.transaction() as connection,
    ):
        throughput = reads.throughput(connection, _RATE_MINUTES)
        return {
            "rows": reads.status_counts(connection),
            "to_redo": reads.redo_count(connection),
            "counted_to": reads.MOST_COUNTED,
            "oldest_queued_s": throughput.oldest_queued_s,
            "captions_per_minute": throughput.captions_per_minute,
            "failures": [each.document() for each in reads.failures(connection)],
            "filtered": [each.document() for each in filtered.sums(connection)],
            "newest_worker": workers.newest(connection),
            "open_breakers": breakers.find_open(connection),
            "pool_problems": [each.document() for each in pool_problems.find_all(connection)],
        }


def _workers_document(
    found: Availability, newest: workers.WorkerRecord | None, open_breakers: list[breakers.OpenBreaker]
) -> dict[str, Any]:
    alive = None if newest is None else found.is_alive(newest.name)
    # A killed worker leaves its breaker open in the table.
    alive_breakers = [each.document() for each in open_breakers if found.is_alive(each.name) is not False]
    return found.document() | {
        "newest": None if newest is None else newest.document() | {"alive": alive},
        "open_breakers": alive_breakers,
    }


def _read_queues(settings: BrokerSettings) -> dict[str, int] | None:
    """Messages by queue; None without a configured broker. Raises BrokerUnavailable."""
    if not settings.url:
        return None
    lengths = read_lengths(settings)
    return {CAPTION_QUEUE: lengths.captions, "handed out": lengths.unacknowledged}


def _print(document: dict[str, Any]) -> None:
    print_table(
        ("status", "rows"), ((status_text(name), _number(rows)) for name, rows in document["rows"].items())
    )
    _print_redo(document["to_redo"])
    if document["failures"]:
        columns = ("rows", "failed because", "for example")
        print_table(
            columns,
            ((_number(each["rows"]), each["error_code"], each["example"]) for each in document["failures"]),
        )
    if document["filtered"]:
        print_table(
            ("filtered today", "in 7 days", "by the rule", "setting"),
            (
                (each["today"], each["last_7_days"], each["reason"], each["setting"])
                for each in document["filtered"]
            ),
        )
    if document["workers"]["newest"]:
        _print_newest_worker(document["workers"]["newest"])
    print_line(document["workers"]["words"])
    for each in document["workers"]["open_breakers"]:
        since = value_text(each["open_since"])
        print_line(f"the breaker of the worker on {each['host']} is open since {since}: {each['reason']}")
    for each in document["pool_problems"]:
        print_line(_problem_words(each))
    if document["oldest_queued_s"] is not None:
        print_line(f"the oldest queued row has waited {document['oldest_queued_s']:.0f} s")
    rate = document["captions_per_minute"]
    print_line(f"{rate:.1f} captions per minute over the last {_RATE_MINUTES} minutes")
    if document["queues"] is not None:
        print_line("on Redis: " + ", ".join(f"{name} {count}" for name, count in document["queues"].items()))


def _print_redo(rows: int) -> None:
    if rows:
        print_line(f"{_number(rows)} of the captioned rows are to be captioned again")


def _problem_words(problem: dict[str, Any]) -> str:
    """Why a worker pool has no worker, and the next step."""
    name, since = problem["pool"].rpartition("/")[2], value_text(problem["since"])
    if problem["held_at"] is not None:
        return (
            f"the worker pool {name} is held at 0 instances since {value_text(problem['held_at'])}, after "
            f"{problem['failed_starts']} starts of a worker that failed: {problem['reason']}. "
            "When the cause is gone: `dropline redrive --all`"
        )
    following = problem["next_check_at"]
    again = "" if following is None else f" (tried again at {value_text(following)})"
    return f"the worker pool {name} has no {problem['lacks']} since {since}: {problem['reason']}{again}"


def _number(rows: int) -> str:
    """The number for people; counting ends at the limit."""
    return f"{rows}+" if rows == reads.MOST_COUNTED else str(rows)


def _print_newest_worker(worker: dict[str, Any]) -> None:
    # A killed worker does not set `stopped_at`.
    stopped = "lost" if worker["stopped_at"] is None and worker["alive"] is False else worker["stopped_at"]
    print_table(
        ("newest worker", "model", "revision", "device", "largest batch", "started", "stopped"),
        [(*(worker[name] for name in _WORKER_COLUMNS), stopped)],
    )
