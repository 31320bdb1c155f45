"""One row as the page of a picture: answers, generations, details and times. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from db.edits import KeptCaption
from db.history import ReplacedCaption
from db.reads import CaptionRecord
from dropline.caption_tag import caption_tag
from dropline.contract import PERSON, Status, TaskPrompt, TaskRequest
from dropline.images.renditions import Rendition
from gallery.cards import READ_TASKS, Card, card_of
from gallery.page_query import PageQuery
from gallery.regions import regions_of
from gallery.words import TASKS, advice_for, duration_words, is_redrive_offered, size_words, status_words


class Rest(Enum):
    """Whether there is still a picture to show."""

    #: The object is in the bucket, or Cloud Storage did not answer.
    OBJECT = "object"
    #: The object is gone, and the gallery has a copy.
    COPY = "copy"
    #: The object is gone.
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Link:
    """A row among several rows of an object, as a link."""

    url: str
    label: str
    state: str
    words: str
    image: str | None
    is_current: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """The error of a failed row."""

    title: str
    text: str
    advice: str
    can_redrive: bool


@dataclass(frozen=True, slots=True)
class Earlier:
    """A replaced caption."""

    text: str
    #: The model, or the person.
    source: str
    iso: str
    #: When it was replaced.
    words: str


@dataclass(frozen=True, slots=True)
class Moment:
    """A time in the life of a row."""

    iso: str
    words: str
    #: The time since the moment before.
    after: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """The person who wrote the caption."""

    name: str
    at: Moment
    #: The newest caption of the model; None: the model has made none.
    models: str | None
    #: True if the model is to make a caption in place of the person's.
    is_reverted: bool


@dataclass(frozen=True, slots=True)
class PictureView:
    """The page of one row."""

    id: str
    url: str
    #: The list that led to the page.
    list_url: str
    card: Card
    bucket: str
    name: str
    title: str
    uri: str
    alt: str
    #: The answer, the error or the state; text that was read has its lines.
    text: str
    task_label: str
    #: The text of a task with a text.
    text_asked: str | None
    #: Whether the answer is text read from the picture.
    is_read: bool
    can_copy: bool
    #: The bucket has no such object version: it cannot be asked about or downloaded.
    is_gone: bool
    #: The picture is a copy of an object that is gone.
    is_remainder: bool
    can_ask: bool
    can_edit: bool
    #: The caption, and its tag, for the form of an edit.
    caption: str
    tag: str
    person: Person | None
    #: The row can be captioned again.
    can_redo: bool
    error: Failure | None
    note: str | None
    earlier: tuple[Earlier, ...]
    answers: tuple[Link, ...]
    generations: tuple[Link, ...]
    facts: tuple[tuple[str, str], ...]
    moments: tuple[tuple[str, Moment], ...]
    newer_url: str | None
    older_url: str | None


def picture_of(
    row: CaptionRecord,
    siblings: Sequence[CaptionRecord],
    neighbours: tuple[CaptionRecord | None, CaptionRecord | None],
    query: PageQuery,
    rest: "Rest",
    models: KeptCaption | None = None,
    earlier: Sequence[ReplacedCaption] = (),
) -> PictureView | None:
    """The page of a row; None for a row without an id.

    Args:
        row: the row of the page.
        siblings: all rows of the object, all generations.
        neighbours: the next newer and the next older picture of the list.
        query: of the list that led to the page.
        rest: of the object.
        models: the newest caption of the model that a person's has replaced.
        earlier: the captions that others have replaced, the newest first.
    """
    card = card_of(row, query, Rendition.VIEW)
    if card is None:
        return None
    if rest is Rest.NOTHING:
        card = replace(card, image=None, regions=(), is_gone=True)
    task = TaskRequest.parse(row.task)
    is_live = row.status not in (Status.DELETED, Status.SUPERSEDED)
    newer, older = (each and card_of(each, query) for each in neighbours)
    return PictureView(
        id=card.id,
        url=f"/pictures/{card.id}",
        list_url=query.url("/"),
        card=card,
        bucket=row.bucket,
        name=row.object_name,
        title=row.object_name.rpartition("/")[2] or row.object_name,
        uri=f"gs://{row.bucket}/{row.object_name}",
        alt=row.caption or row.object_name,
        text=_read_lines(row) if task.prompt is TaskPrompt.OCR_WITH_REGION and row.caption else card.words,
        task_label=TASKS[task.prompt],
        text_asked=task.text if task.prompt.takes_text else None,
        is_read=task.prompt in READ_TASKS,
        can_copy=bool(row.caption),
        is_gone=card.is_gone or rest is Rest.COPY,
        is_remainder=card.image is not None and rest is Rest.COPY,
        can_ask=is_live and rest is Rest.OBJECT,
        can_edit=is_live,
        caption=row.caption or "",
        tag=caption_tag(row.caption),
        person=_person(row, models),
        can_redo=is_live and rest is Rest.OBJECT and _can_redo(row),
        error=failure_of(row),
        note=_note(row),
        earlier=tuple(map(_earlier, earlier)),
        answers=tuple(_answers(row, siblings, query)),
        generations=tuple(_generations(row, siblings, query)),
        facts=tuple(_facts(row)),
        moments=tuple(_moments(row)),
        newer_url=newer.url if newer else None,
        older_url=older.url if older else None,
    )


def failure_of(row: CaptionRecord) -> Failure | None:
    """The error of a failed row; None for another row."""
    if row.status is not Status.FAILED:
        return None
    advice = advice_for(row.error_code)
    return Failure(advice.title, row.error or "", advice.remedy, can_redrive=is_redrive_offered(row.error_code))


def _person(row: CaptionRecord, models: KeptCaption | None) -> Person | None:
    at = row.edited_at
    if row.edited_by is None or at is None:
        return None
    moment = Moment(at.isoformat(), _clock(at), None)
    return Person(row.edited_by, moment, models.caption if models else None, is_reverted=row.redo)


def _can_redo(row: CaptionRecord) -> bool:
    return row.status is Status.CAPTIONED and not row.redo and row.edited_by is None


def _note(row: CaptionRecord) -> str | None:
    """A remark about a row with a caption: the state of its redo, or why the metadata lacks the caption."""
    if row.status is Status.CAPTIONED and row.redo and row.edited_by is None:
        return "A new caption is on the way; this one stays until then."
    if row.redo_failed_at is not None:
        return f"The last try for a new caption failed at {_clock(row.redo_failed_at)}: {row.error}"
    return row.error if row.status is not Status.FAILED else None


def _earlier(replaced: ReplacedCaption) -> Earlier:
    at = replaced.replaced_at
    return Earlier(replaced.caption, replaced.edited_by or replaced.model or "", at.isoformat(), _clock(at))


def _read_lines(row: CaptionRecord) -> str:
    """The text with a line for each region, in the order of the model."""
    return "\n".join(region.label for region in regions_of(row.result)) or row.caption or ""


def _answers(row: CaptionRecord, siblings: Sequence[CaptionRecord], query: PageQuery) -> Iterator[Link]:
    for each in siblings:
        card = card_of(each, query) if each.generation == row.generation else None
        if card:
            label = card.chip or TASKS[TaskPrompt.CAPTION]
            yield Link(card.url, label, status_words(each.status), card.words, card.image, each.id == row.id)


def _generations(row: CaptionRecord, siblings: Sequence[CaptionRecord], query: PageQuery) -> Iterator[Link]:
    seen: set[int] = set()
    for each in siblings:
        card = card_of(each, query) if each.generation not in seen else None
        if card:
            seen.add(each.generation)
            when = _clock(each.event_time or each.queued_at)
            is_current = each.generation == row.generation
            yield Link(card.url, "", status_words(each.status), when, card.image, is_current)


def _facts(row: CaptionRecord) -> Iterator[tuple[str, str]]:
    yield "Object", f"gs://{row.bucket}/{row.object_name}"
    yield "Generation", str(row.generation)
    yield "Task", row.task
    if row.width and row.height:
        yield "Pixels", f"{row.width} × {row.height}"
    if row.size_bytes is not None:
        yield "Size", size_words(row.size_bytes)
    if row.content_type:
        yield "Type", row.content_type
    if row.model and row.model != PERSON:
        yield "Model", f"{row.model} ({row.model_revision[:12]})" if row.model_revision else row.model
    if row.copied_from is not None:
        yield "Caption of", f"identical bytes (row {row.copied_from})"
    if row.attempts > 1:
        yield "Attempts", str(row.attempts)


def _moments(row: CaptionRecord) -> Iterator[tuple[str, Moment]]:
    before: datetime | None = None
    for name, at in (
        ("Uploaded", row.event_time),
        ("Queued", row.queued_at),
        ("Started", row.started_at),
        ("Captioned", row.captioned_at),
        ("Metadata", row.metadata_written_at),
        ("Failed", row.updated_at if row.status is Status.FAILED else None),
    ):
        if at is not None:
            after = f"after {duration_words(at - before)}" if before is not None and at >= before else None
            yield name, Moment(at.isoformat(), _clock(at), after)
            before = at


def _clock(at: datetime) -> str:
    return (
        at.strftime("%Y-%m-%d %H:%M:%S UTC")
        if at.utcoffset() == timedelta(0)
        else at.strftime("%Y-%m-%d %H:%M:%S")
    )
