"""Rows as cards of a list. Pure. Texts of rows are untrusted; the templates escape them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from db.reads import CaptionRecord
from dropline import caption_id
from dropline.contract import Status, TaskPrompt, TaskRequest
from dropline.errors import InvalidCaptionId, InvalidTask
from dropline.images.renditions import Rendition
from dropline.regions import Outline
from gallery.page_query import PageQuery
from gallery.regions import Region, regions_of
from gallery.words import TASKS, advice_for, status_words

#: Regions drawn on a picture in the grid.
_REGIONS_IN_GRID = 12
#: An original with both sides below this is not enlarged in the grid, in pixels.
_SMALL_PX = 120
#: Height of the letters of a label, as a share of the width of the picture.
_LABEL_SHARE = 0.022
#: The part before the name of the file in the name of an upload.
_UPLOAD = re.compile(r"^.*/[0-9a-f]{32}/", re.DOTALL)
_EMPTY_ANSWERS = {
    TaskPrompt.OCR: "No text found",
    TaskPrompt.OCR_WITH_REGION: "No text found",
    TaskPrompt.REGION_TO_OCR: "No text found",
}
#: Tasks answered by text of the picture.
READ_TASKS = frozenset(_EMPTY_ANSWERS)
#: States of objects that Cloud Storage no longer has, as far as events say.
_GONE = frozenset({Status.DELETED})


@dataclass(frozen=True, slots=True)
class Drawn:
    """A region as SVG."""

    label: str
    #: Values of `points`.
    outlines: tuple[str, ...]
    #: Place of the label.
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Card:
    """A row in the grid."""

    id: str
    url: str
    #: Address of the copy; None without a picture.
    image: str | None
    is_gone: bool
    is_small: bool
    name: str
    #: The caption, the error or the state.
    words: str
    #: CSS class of `words`.
    tone: str
    #: The task, where it is no caption.
    chip: str | None
    width: int | None
    height: int | None
    regions: tuple[Drawn, ...]
    font_size: float
    #: Newer rows have a larger number.
    order: int
    #: The list goes on after this row.
    cursor: str


def id_of(row: CaptionRecord) -> str | None:
    """The public id of a row; None for a row without an id, such as a tombstone."""
    try:
        return caption_id.encode(row.version, TaskRequest.parse(row.task))
    except (InvalidCaptionId, InvalidTask):
        return None


def cards_of(rows: Sequence[CaptionRecord], query: PageQuery) -> list[Card]:
    """The cards of rows that have an id, in the list of the query."""
    return [card for row in rows if (card := card_of(row, query))]


def card_of(row: CaptionRecord, query: PageQuery, rendition: Rendition = Rendition.THUMBNAIL) -> Card | None:
    """A row as a card; None for a row without an id. The picture's page keeps the query, for the way back."""
    key = id_of(row)
    if key is None:
        return None
    words, tone = _words(row)
    most = _REGIONS_IN_GRID if rendition is Rendition.THUMBNAIL else None
    return Card(
        id=key,
        url=query.url(f"/pictures/{key}"),
        image=_image_url(row, key, rendition),
        is_gone=row.status in _GONE,
        is_small=_is_small(row),
        name=_shown_name(row.object_name),
        words=words,
        tone=tone,
        chip=_chip(row),
        width=row.width,
        height=row.height,
        regions=tuple(map(_drawn, regions_of(row.result)[:most])) if row.width else (),
        font_size=round((row.width or 0) * _LABEL_SHARE, 1),
        order=row.id,
        cursor=str(row.id),
    )


def _shown_name(object_name: str) -> str:
    """The object name; of an upload, the name of its file."""
    return _UPLOAD.sub("", object_name) or object_name


def _words(row: CaptionRecord) -> tuple[str, str]:
    """The line below a picture, and its CSS class."""
    if row.status is Status.FAILED:
        return advice_for(row.error_code).title, "bad"
    if row.caption:
        return row.caption, ""
    if row.status in (Status.QUEUED, Status.RUNNING):
        return status_words(row.status), "waits"
    if row.status is Status.CAPTIONED:
        return _empty_answer(row), "soft"
    return status_words(row.status), "soft"


def _empty_answer(row: CaptionRecord) -> str:
    for prompt, words in _EMPTY_ANSWERS.items():
        if row.task.startswith(prompt.value):
            return words
    found = len(regions_of(row.result))
    return f"{found} region{'s' if found > 1 else ''}" if found else "Nothing found"


def _image_url(row: CaptionRecord, key: str, rendition: Rendition) -> str | None:
    return None if row.status in _GONE else f"/pictures/{key}/{rendition}.webp"


def _is_small(row: CaptionRecord) -> bool:
    return bool(row.width and row.height and max(row.width, row.height) < _SMALL_PX)


def _chip(row: CaptionRecord) -> str | None:
    task = TaskRequest.parse(row.task)
    if task.prompt is TaskPrompt.CAPTION:
        return None
    label = TASKS[task.prompt]
    return f"{label}: {task.text}" if task.prompt.takes_text else label


def _drawn(region: Region) -> Drawn:
    x, y = region.top
    return Drawn(region.label, tuple(map(_points, region.outlines)), x, y)


def _points(outline: Outline) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in outline)
