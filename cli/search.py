"""`dropline search`: the newest captions with words, or the best."""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import Annotated

import typer

from cli.console import print_json, print_note, print_table
from cli.options import Json
from cli.results import document, print_model_notice
from db import search as searches
from db.reads import CaptionRecord
from db.search import Search
from db.session import Database, reader_settings
from db.start_check import READER
from db.word_search import CANDIDATES
from dropline.contract import Status, TaskPrompt
from dropline.errors import ClientError
from dropline.settings import load_settings

#: Rows of one read.
_PAGE = 200


def search(
    words: Annotated[
        str, typer.Argument(help='Words as for a search engine: `red car`, `"red car"`, `car -red`, `car or bus`.')
    ],
    prefix: Annotated[str, typer.Option(help="Only objects whose names begin with this.")] = "",
    task: Annotated[str, typer.Option(help="Only answers to this task, for example `od`.")] = "",
    bucket: Annotated[str, typer.Option(help="Only objects of this bucket.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most captions.")] = 20,
    ranked: Annotated[
        bool, typer.Option("--ranked", help=f"The best of the newest {CANDIDATES:,} matches, the best first.")
    ] = False,
    json: Json = False,
) -> None:
    """Find captions by their words, the newest first or the best first.

    Overwritten and deleted images are left out. The last word may be unfinished: `armad` finds `armadillo`.
    """
    wanted = Search(words, (Status.CAPTIONED,), _prompt(task), prefix, bucket, is_current=True)
    if not wanted.stripped_words():
        raise ClientError("the search has no words; `dropline search 'red car'`")
    settings = reader_settings(load_settings())
    with closing(Database.connect(settings, "dropline-search", READER, connections=1)) as database:
        found = _best(database, wanted, limit) if ranked else list(islice(_newest(database, wanted, limit), limit))
    if json:
        print_json([document(row) for row in found])
        return
    if not found:
        print_note(f"no caption has {words!r} with these conditions")
        return
    print_table(("object", "task", "caption"), [(row.version.uri, row.task, row.caption) for row in found])
    print_model_notice(found)


def _best(database: Database, wanted: Search, most: int) -> list[CaptionRecord]:
    with database.transaction() as connection:
        return searches.best(connection, wanted, most)


def _newest(database: Database, wanted: Search, most: int) -> Iterator[CaptionRecord]:
    """The matches, read page by page."""
    before = None
    while True:
        with database.transaction() as connection:
            page = searches.newest(connection, wanted, before, min(most, _PAGE))
        yield from page
        if len(page) < min(most, _PAGE):
            return
        before = page[-1].id


def _prompt(task: str) -> str:
    if not task:
        return ""
    prompt = TaskPrompt.named(task)
    if prompt is None:
        names = ", ".join(each.name.lower() for each in TaskPrompt)
        raise ClientError(f"--task {task!r} is no task of Florence-2; the tasks are {names}")
    return prompt.value
