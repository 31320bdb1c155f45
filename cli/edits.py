"""`dropline edits`: the latest captions that people have written."""

from contextlib import closing
from typing import Annotated

import typer

from cli.console import print_json, print_note, print_table, value_text
from cli.options import Json
from cli.results import document
from db import reads
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.settings import load_settings


def edits(
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most captions.")] = 20,
    json: Json = False,
) -> None:
    """Show the latest captions that people have written: when, who, and of which object.

    Captions that were in the metadata of their objects already, and edits that were reverted, are left out.
    """
    settings = reader_settings(load_settings())
    with (
        closing(Database.connect(settings, "dropline-edits", READER, connections=1)) as database,
        database.transaction() as connection,
    ):
        found = reads.latest_edits(connection, limit)
    if json:
        print_json([document(row) for row in found])
        return
    if not found:
        print_note("no caption of a person is in the table; `dropline edit gs://BUCKET/NAME 'its caption'`")
        return
    lines = [(value_text(row.edited_at), row.edited_by, row.version.uri, row.task, row.caption) for row in found]
    print_table(("edited", "by", "object", "task", "caption"), lines)
