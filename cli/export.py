"""`dropline export`: captions as JSON lines, CSV, Parquet, COCO, or as a text beside each image."""

import enum
import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli.console import make_progress, print_error, print_note
from cli.exit_codes import ExitCode
from cli.redrive import parse_since
from db.caption_filter import CaptionFilter
from db.exports import Chosen
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.contract import Status, TaskPrompt
from dropline.errors import ClientError
from dropline.settings import Settings, load_settings
from dropline.storage.exports import ExportStorage
from operations.export.run import Progress, Wanted, export_to_file, export_to_stream
from operations.export.texts import Refused, TextBucket, TextDirectory, TextPlace, export_texts, shown

#: A part of a long table is read again after a pause of Postgres; see `db.exports`.
_STATEMENT_TIMEOUT_MS = 30_000
_GS = "gs://"


class Format(enum.StrEnum):
    """The formats."""

    JSONL = "jsonl"
    CSV = "csv"
    PARQUET = "parquet"
    COCO = "coco"
    TXT = "txt"


#: No image and no unknown type: the function filters the finished object.
_CONTENT_TYPES = {
    Format.JSONL: "application/x-ndjson",
    Format.CSV: "text/csv; charset=utf-8",
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.COCO: "application/json",
}


def export(
    format: Annotated[Format, typer.Option(help="Of the output.")] = Format.JSONL,  # noqa: A002 - the option
    to: Annotated[
        str, typer.Option(metavar="FILE|DIR|gs://…", help="Where to write; without it, standard output.")
    ] = "",
    bucket: Annotated[str, typer.Option(help="Only objects of this bucket.")] = "",
    prefix: Annotated[str, typer.Option(help="Only objects whose names begin with this.")] = "",
    task: Annotated[str, typer.Option(help="Only answers to this task, for example `od`.")] = "",
    model: Annotated[str, typer.Option(help="Only captions of this model.")] = "",
    revision: Annotated[str, typer.Option(help="Only captions of this revision of a model.")] = "",
    older_than: Annotated[
        str, typer.Option(metavar="TIME", help="Only captions from before: `7d` ago, or `2026-11-22T14:00Z`.")
    ] = "",
    status: Annotated[list[Status] | None, typer.Option(help="Of the rows; `captioned` without this.")] = None,
    every_generation: Annotated[
        bool, typer.Option("--every-generation", help="Also overwritten versions of objects.")
    ] = False,
) -> None:
    """Export captions: rows as lines, a table or COCO, or a text file beside each image.

    Rows are read in short parts in the order of their ids, in constant memory. An export to a FILE that was cut
    short goes on with the same command; the file appears when it is whole. `--format coco` has captions, or with
    `--task od` (or another task with boxes) boxes.
    """
    prompt = _prompt(task)
    row_filter = CaptionFilter(
        bucket=bucket,
        prefix=prefix,
        task=prompt.value if prompt else "",
        model=model,
        revision=revision,
        older_than=parse_since(older_than, datetime.now(UTC), "--older-than") if older_than else None,
        statuses=tuple(status) if status else (Status.CAPTIONED,),
    )
    chosen = Chosen(row_filter, every_generation)
    settings = load_settings()
    with closing(_connect(settings)) as database:
        # Before a file or a directory is made.
        database.check()
        if format is Format.TXT:
            if every_generation:
                raise ClientError("--format txt has one text for an image; leave --every-generation out")
            _export_texts(settings, database, chosen, to, own_task=prompt is None)
        else:
            named = replace(row_filter, older_than=None)
            options = json.dumps([format.value, asdict(named), older_than, every_generation])
            wanted = Wanted(format.value, chosen, bool(prompt and prompt.gives_regions), options)
            _export_rows(settings, database, wanted, to)


def _connect(settings: Settings) -> Database:
    limited = reader_settings(settings).model_copy(update={"statement_timeout_ms": _STATEMENT_TIMEOUT_MS})
    return Database.connect(limited, "dropline-export", READER, connections=1)


def _prompt(task: str) -> TaskPrompt | None:
    if not task:
        return None
    prompt = TaskPrompt.named(task)
    if prompt is None:
        names = ", ".join(each.name.lower() for each in TaskPrompt)
        raise ClientError(f"--task {task!r} is no task of Florence-2; the tasks are {names}")
    return prompt


def _export_rows(settings: Settings, database: Database, wanted: Wanted, to: str) -> None:
    with _shown_progress() as progress:
        if to.startswith(_GS):
            with _object_stream(settings, wanted, to) as out:
                export_to_stream(database, wanted, out, progress)
        elif to:
            _export_to_file(database, wanted, Path(to), progress)
        else:
            if wanted.format == Format.PARQUET and sys.stdout.isatty():
                raise ClientError("Parquet is no text for a terminal; give --to FILE, or a pipe")
            export_to_stream(database, wanted, sys.stdout.buffer, progress)
    again = ", after an earlier run that was cut short" if progress.is_resumed else ""
    print_note(f"{progress.rows:,} rows exported{f' to {to}' if to else ''}{again}")
    if progress.left_out:
        kind = "boxes" if wanted.with_regions else "captions"
        print_note(f"{progress.left_out:,} rows are left out: they have no {kind} (see docs/export.md)")


def _export_to_file(database: Database, wanted: Wanted, path: Path, progress: Progress) -> None:
    if path.is_dir():
        raise ClientError(f"{path} is a directory; give the path of a file")
    try:
        export_to_file(database, wanted, path, progress)
    except OSError as error:
        raise ClientError(
            f"{path} cannot be written ({error.strerror or error}); correct the path, or free the disk, and "
            "repeat the command: it goes on"
        ) from error


@contextmanager
def _object_stream(settings: Settings, wanted: Wanted, to: str) -> Iterator[BinaryIO]:
    bucket, name = _bucket_and_name(to)
    if not name or name.endswith("/"):
        raise ClientError(f"{to} names no object; write gs://BUCKET/NAME")
    content_type = _CONTENT_TYPES[Format(wanted.format)]
    with ExportStorage.connect(settings).writing(bucket, name, content_type) as out:
        yield out


def _bucket_and_name(to: str) -> tuple[str, str]:
    bucket, _, name = to.removeprefix(_GS).partition("/")
    if not bucket:
        raise ClientError(f"{to} names no bucket; write gs://BUCKET/…")
    return bucket, name


def _export_texts(settings: Settings, database: Database, chosen: Chosen, to: str, *, own_task: bool) -> None:
    if not to:
        raise ClientError("--format txt writes many files: give --to DIR, or --to gs://BUCKET/PREFIX")
    with _text_place(settings, to) as place, _shown_progress() as progress:
        refused = export_texts(database, chosen, place, progress, own_task=own_task)
    print_note(f"{progress.rows:,} texts written to {to}")
    if refused.count:
        _print_refused(refused)
        raise typer.Exit(ExitCode.FAILED)


@contextmanager
def _text_place(settings: Settings, to: str) -> Iterator[TextPlace]:
    if not to.startswith(_GS):
        try:
            opened = TextDirectory(Path(to))
        except OSError as error:
            raise ClientError(f"{to} cannot be written ({error.strerror or error}); give a directory") from error
        except sqlite3.Error as error:
            raise ClientError(f"{to} can have no file of names ({error}); give another directory") from error
        with closing(opened) as place:
            yield place
        return
    bucket, prefix = _bucket_and_name(to)
    storage = ExportStorage.connect(settings)
    whole = f"{prefix.rstrip('/')}/" if prefix else ""
    yield TextBucket(partial(storage.write_text, bucket), whole)


def _print_refused(refused: Refused) -> None:
    for line in shown(refused):
        print_error(f"no text for {line}")


@contextmanager
def _shown_progress() -> Iterator[Progress]:
    with make_progress() as bars:
        bar = bars.add_task("rows of the table", total=None)
        progress = Progress()
        progress.on_part = lambda: bars.update(bar, completed=progress.done, total=progress.last)
        yield progress
