"""Captions of people: edits and reverts, by the functions of migration 0016.

Each function takes a connection in a transaction of the caller. The functions in Postgres keep the replaced
caption in `caption_history`, take the row from a claim in flight, and make it due for the write-back.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import TextClause, text

from db import reads
from db.reads import CaptionRecord
from db.session import Connection


@dataclass(frozen=True, slots=True)
class EditTarget:
    """A row to edit."""

    bucket: str
    name: str
    #: None: the newest generation of the object.
    generation: int | None = None
    #: As in the column `task`; None: the task of the write-back.
    task: str | None = None


@dataclass(frozen=True, slots=True)
class EditedRow:
    """A row after an edit or a revert."""

    row: CaptionRecord
    #: False if the row had the wanted caption already.
    is_changed: bool
    #: True if a worker has work: the write-back, or a caption of the model.
    is_due: bool


@dataclass(frozen=True, slots=True)
class KeptCaption:
    """A replaced caption."""

    caption: str
    model: str | None
    captioned_at: datetime | None


_EDIT = text("""
    SELECT row_id, is_changed, is_due FROM public.edit_caption(
        :bucket, :name, :caption, :generation, :task, edited_by => :by, if_tag => :if_tag)
""")
_REVERT = text("""
    SELECT row_id, is_changed, is_due FROM public.revert_caption(
        :bucket, :name, :generation, :task, reverted_by => :by, if_tag => :if_tag)
""")
_NEWEST_OF_MODEL = text("""
    SELECT caption, model, captioned_at FROM caption_history
    WHERE caption_id = :row_id AND edited_by IS NULL ORDER BY id DESC LIMIT 1
""")


def edit(
    connection: Connection, target: EditTarget, caption: str, by: str | None, if_tag: str | None
) -> EditedRow:
    """Give the row a person's caption.

    Args:
        connection: in a transaction.
        target: the row.
        caption: without NUL and lone surrogates.
        by: name of the person; None: the login.
        if_tag: `dropline.caption_tag.caption_tag` of the caption the person has read; None: whichever it is.

    Raises:
        EditRefused: as of `operations.edit.Editor.edit`; by the transaction.
    """
    return _changed(connection, _EDIT, target, by, if_tag, caption=caption)


def revert(connection: Connection, target: EditTarget, by: str | None, if_tag: str | None) -> EditedRow:
    """Put back the newest caption of the model; without any, the row is due for the model. Raises as `edit`."""
    return _changed(connection, _REVERT, target, by, if_tag)


def newest_of_model(connection: Connection, row_id: int) -> KeptCaption | None:
    """The newest replaced caption of the model, or None."""
    found = connection.execute(_NEWEST_OF_MODEL, {"row_id": row_id}).one_or_none()
    return None if found is None else KeptCaption(*found)


def _changed(
    connection: Connection,
    statement: TextClause,
    target: EditTarget,
    by: str | None,
    if_tag: str | None,
    **more: str,
) -> EditedRow:
    values = {
        "bucket": target.bucket,
        "name": target.name,
        "generation": target.generation,
        "task": target.task,
        "by": by,
        "if_tag": if_tag,
    }
    done = connection.execute(statement, values | more).one()
    row = reads.row(connection, done.row_id)
    assert row is not None, "the function has locked the row"
    return EditedRow(row, done.is_changed, done.is_due)
