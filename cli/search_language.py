"""`dropline search-language`: the text search configuration of Postgres by which captions are searched."""

from contextlib import closing
from typing import Annotated

import typer

from cli.console import make_progress, print_json, print_line
from cli.options import Json
from db.search_language import change_language, languages
from db.session import Database, reader_settings, writer_settings
from db.start_check import READER
from dropline.settings import load_settings


def search_language(
    name: Annotated[
        str, typer.Argument(help="A text search configuration of Postgres, for example `german`; none: show it.")
    ] = "",
    json: Json = False,
) -> None:
    """Show the language in which captions are searched, or change it.

    A change needs the login of the migrations in DROPLINE_DATABASE__URL. Searches go on meanwhile. A change that
    was cut short goes on with the next call; a change to the present language does nothing.
    """
    if name:
        _change(name, json)
    else:
        _show(json)


def _show(json: bool) -> None:
    settings = reader_settings(load_settings())
    opened = Database.connect(settings, "dropline-search-language", READER, connections=1)
    with closing(opened) as database, database.transaction() as connection:
        found = languages(connection)
    if json:
        print_json({"language": found.current, "known": list(found.known)})
        return
    print_line(f"captions are searched in {found.current}")
    print_line(f"this Postgres has {', '.join(found.known)}")


def _change(name: str, json: bool) -> None:
    with make_progress() as progress:
        bar = progress.add_task("captions written anew", total=None)

        def show(step: str) -> None:
            progress.console.print(step, highlight=False)

        rows = change_language(
            writer_settings(load_settings()), name, show, lambda done: progress.update(bar, completed=done)
        )
    if json:
        print_json({"language": name, "rewritten": rows})
    else:
        print_line(f"captions are searched in {name}; {rows:,} were written anew")
