"""`dropline edit`: a person's caption in place of the model's, or the model's caption again."""

import getpass
import os
from typing import Annotated

import typer

from cli.console import print_json, print_note, print_table
from cli.options import Json
from cli.results import document
from db.edits import EditedRow, EditTarget
from dropline.contract import TaskRequest, parse_uri
from dropline.errors import ClientError
from dropline.log import configure_logging
from dropline.settings import load_settings
from operations.edit import open_editor


def edit(
    uri: Annotated[
        str,
        typer.Argument(
            metavar="gs://BUCKET/NAME[#GENERATION]", help="The object. Without a generation: the newest one."
        ),
    ],
    caption: Annotated[str | None, typer.Argument(help="The new caption.", show_default=False)] = None,
    task: Annotated[
        str,
        typer.Option(help="Edit the answer to this task, for example `od`; default: the task of the metadata."),
    ] = "",
    by: Annotated[str, typer.Option(metavar="NAME", help="Who edits; default: the user of this machine.")] = "",
    revert: Annotated[bool, typer.Option("--revert", help="Put the model's caption back instead.")] = False,
    json: Json = False,
) -> None:
    """Replace a caption by a person's, in Postgres and in the object's metadata.

    No redo and no redrive replaces a person's caption. The same caption twice changes nothing. The command needs
    the function's login, or one with the role dropline_editor (DROPLINE_DATABASE__URL), and Redis. Exit code 4:
    Postgres, Redis or Cloud Run is unavailable.
    """
    if (caption is None) is not revert:
        raise ClientError("give the new caption, or --revert to put the model's caption back")
    target = EditTarget(*parse_uri(uri), str(TaskRequest.parse(task)) if task else None)
    settings = load_settings()
    with open_editor(settings, print_note) as editor:
        configure_logging(settings.log.level, settings.log.format, "edit")
        name = by or _user()
        edited = editor.revert(target, by=name) if caption is None else editor.edit(target, caption, by=name)
    if json:
        print_json(document(edited.row) | {"changed": edited.is_changed})
        return
    _print(edited, is_reverted=revert)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container may run as a user without a name.
        return f"user {os.getuid()}"


def _print(edited: EditedRow, *, is_reverted: bool) -> None:
    row = edited.row
    print_table(
        ("object", "task", "caption", "by"), [(row.version.uri, row.task, row.caption, row.edited_by or row.model)]
    )
    if not edited.is_changed:
        print_note(
            "the caption is the model's: nothing changed" if is_reverted and not row.redo else "nothing changed"
        )
    elif is_reverted and row.redo:
        print_note("there is no caption of the model yet: a worker makes one, and the person's stays until then")
