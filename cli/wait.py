"""`dropline wait`: until objects have their captions."""

import re
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import Json, Timeout
from dropline.contract import ObjectVersion
from dropline.errors import ClientError

if TYPE_CHECKING:
    from dropline.settings import Settings

_URI = re.compile(r"gs://(?P<bucket>[^/#]+)/(?P<name>.+?)(?:#(?P<generation>\d+))?", re.DOTALL)


def wait(
    uris: Annotated[
        list[str],
        typer.Argument(
            metavar="gs://BUCKET/NAME[#GENERATION]…",
            help="Objects. Without a generation: the one that is in the bucket now.",
        ),
    ],
    timeout: Timeout = 300,
    json: Json = False,
) -> None:
    """Wait for objects that are in the bucket already, and print their captions.

    Listens to Postgres and asks nobody again and again. Exit code 1: an object ended without a caption.
    """
    from dropline.settings import load_settings

    settings = load_settings()
    raise typer.Exit(wait_for_captions(settings, _versions(settings, uris), timeout, json))


def wait_for_captions(settings: "Settings", versions: list[ObjectVersion], timeout_s: float, as_json: bool) -> int:
    """Wait, print, and give the exit code."""
    from cli import results
    from cli.console import complain, print_json, print_line
    from cli.waiting import Waiter
    from db.reads import CaptionRecord
    from db.session import reader_settings

    rows: list[CaptionRecord] = []
    with Waiter(reader_settings(settings)) as waiter:
        missing = waiter.wait(versions, timeout_s, lambda _, ended: rows.extend(ended))
    if as_json:
        unfinished = [results.missing_document(version, missing) for version in missing]
        print_json([results.document(row) for row in rows] + unfinished)
    elif len(rows) == len(versions) == 1 and rows[0].caption is not None:
        print_line(rows[0].caption)
    elif len(versions) == 1:
        for row in rows:
            why = f" ({results.words_of(row)})" if row.error_code else ""
            complain(f"{row.version.uri} is {row.status}{why}")
    else:
        results.print_rows(rows)
    results.complain_about_missing(missing, timeout_s)
    return results.exit_code(rows, missing)


def _versions(settings: "Settings", uris: list[str]) -> list[ObjectVersion]:
    from dropline.storage.bucket import Storage

    parsed = [parse_uri(uri) for uri in uris]
    storage = None
    versions = []
    for bucket, name, generation in parsed:
        if generation is None:
            storage = storage or Storage.connect(settings)
            versions.append(storage.live_version(bucket, name))
        else:
            versions.append(ObjectVersion(bucket, name, generation))
    return versions


def parse_uri(uri: str) -> tuple[str, str, int | None]:
    """Bucket, name and generation; `#` and digits at the end are the generation, as gsutil has it.

    Raises:
        ClientError: not the URI of an object.
    """
    match = _URI.fullmatch(uri)
    if match is None:
        raise ClientError(
            f"{uri!r} is not the URI of an object; write gs://BUCKET/NAME or gs://BUCKET/NAME#GENERATION"
        )
    generation = match["generation"]
    return match["bucket"], match["name"], None if generation is None else int(generation)
