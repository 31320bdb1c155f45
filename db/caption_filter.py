"""Filters of captions for commands on many rows, as a value and as SQL.

The conditions are on `db.models.CaptionRow`; `db.search` and `db.redrivable` import the shared conditions.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, exists, func, or_, text
from sqlalchemy.orm import aliased

from db.models import EVERY_TASK, CaptionRow
from db.storable import storable_text
from dropline.contract import Status, TaskPrompt, TaskRequest
from dropline.errors import ClientError


@dataclass(frozen=True, slots=True)
class CaptionFilter:
    """A row passes if every condition is met; an empty condition lets all rows pass. Tombstones never pass.

    Raises:
        ClientError: a text has NUL or a lone surrogate, which no row can have.
    """

    #: Bucket, object name, and generation; None: all generations.
    objects: tuple[tuple[str, str, int | None], ...] = ()
    bucket: str = ""
    #: Of the object name.
    prefix: str = ""
    #: A task prompt, with any text; or a whole task.
    task: str = ""
    #: Of the caption.
    model: str = ""
    #: Of the caption: `model_revision`.
    revision: str = ""
    #: Captioned before the time.
    older_than: datetime | None = None
    statuses: tuple[Status, ...] = ()

    def __post_init__(self) -> None:
        names = (part for bucket, name, _ in self.objects for part in (bucket, name))
        for value in (*names, self.bucket, self.prefix, self.task, self.model, self.revision):
            if storable_text(value) != value:
                raise ClientError(
                    f"{value!r} has NUL, or is not UTF-8; no row has such a text: correct the filter"
                )

    def conditions(self, row: type[CaptionRow] = CaptionRow) -> list[ColumnElement[bool]]:
        """The conditions as SQL on `captions`, or on an alias of the table."""
        found = [row.task != EVERY_TASK]
        if self.objects:
            found.append(or_(*(is_object(*each, row) for each in self.objects)))
        if self.statuses:
            found.append(row.status.in_(self.statuses))
        if self.task:
            found += has_task(self.task, row)
        if self.prefix:
            found.append(has_prefix(self.prefix, row))
        for column, value in (
            (row.bucket, self.bucket),
            (row.model, self.model),
            (row.model_revision, self.revision),
        ):
            if value:
                found.append(column == value)
        if self.older_than is not None:
            found.append(row.captioned_at < self.older_than)
        return found


def is_object(
    bucket: str, name: str, generation: int | None, row: type[CaptionRow] = CaptionRow
) -> ColumnElement[bool]:
    """Whether the row is of an object, or of a generation of the object."""
    same = and_(row.bucket == bucket, row.object_name == name)
    return same if generation is None else and_(same, row.generation == generation)


def has_prefix(prefix: str, row: type[CaptionRow] = CaptionRow) -> ColumnElement[bool]:
    """Whether the object name begins with `prefix`: the condition of the index ix_captions_object_versions."""
    return func.starts_with(row.object_name, prefix)


def has_task(task: str, row: type[CaptionRow] = CaptionRow) -> list[ColumnElement[bool]]:
    """The conditions on rows with a task from `task` on; the first is of the index ix_captions_prompt."""
    prompt = func.split_part(row.task, text("'>'"), text("1"))
    return [prompt == task.partition(">")[0], func.starts_with(row.task, task)]


def has_newer_generation(*, live_only: bool = False) -> ColumnElement[bool]:
    """Whether the object of the row has a row of a newer generation; an index has the generations of an object.

    Args:
        live_only: rows of deleted generations are not counted.
    """
    newer = aliased(CaptionRow)
    conditions = [
        newer.bucket == CaptionRow.bucket,
        newer.object_name == CaptionRow.object_name,
        newer.generation > CaptionRow.generation,
    ]
    if live_only:
        conditions.append(newer.status != Status.DELETED)
    return exists().where(*conditions).correlate(CaptionRow)


def task_beginning(task: str) -> str:
    """The beginning of `captions.task` for `CaptionFilter.task`: a prompt alone stands for any text.

    Raises:
        InvalidTask: the task is none.
    """
    if not task.strip():
        return ""
    prompt = TaskPrompt.named(task)
    return str(TaskRequest.parse(task)) if prompt is None else prompt.value
