"""The values that the client returns, and how they are read from the documents of the API. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from dropline.client.errors import UnexpectedAnswer
from dropline.contract import Status
from dropline.regions import Box, Polygon, regions_of


@dataclass(frozen=True, slots=True)
class Submitted:
    """A caption to wait for; its row may not exist yet."""

    #: Names the caption in the API: opaque, URL-safe.
    id: str
    #: `gs://bucket/name`; empty where a caller gave the id alone.
    uri: str
    #: Task prompt with its text, as `<OD>`; empty where a caller gave the id alone.
    task: str
    status: Status

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read `{"id", "uri", "task", "status"}`.

        Raises:
            UnexpectedAnswer: a member is missing or has another type.
        """
        members = _members(document)
        return cls(_text(members, "id"), _text(members, "uri"), _text(members, "task"), _status(members))


@dataclass(frozen=True, slots=True)
class Caption:
    """A row: one object version and one task, with its caption or its error. `str` is the caption."""

    #: Names the caption in the API; None for a task of a later release.
    id: str | None
    #: `gs://bucket/name`.
    uri: str
    bucket: str
    object_name: str
    generation: int
    #: Task prompt with its text, as `<OD>`.
    task: str
    status: Status
    #: A caption or OCR text; for structured tasks the labels, separated by commas. None: none yet, or none at all.
    caption: str | None
    #: In pixels of the upright original, as is all of `polygons`.
    boxes: tuple[Box, ...]
    #: Outlines of things, or the corners around lines of text (OCR).
    polygons: tuple[Polygon, ...]
    #: Boxes, polygons and labels as the model's processor gave them (JSON); None for plain text.
    result: Mapping[str, Any] | None = field(repr=False, hash=False)
    #: `person` for a caption of a person.
    model: str | None
    model_revision: str | None
    #: Who wrote the caption, and when; None: the model.
    edited_by: str | None
    edited_at: datetime | None
    #: Number of the row whose caption was taken for identical bytes; None: the model captioned this row.
    copied_from: int | None
    #: Of the upright original, in pixels.
    width: int | None
    height: int | None
    content_type: str | None
    size_bytes: int | None
    #: Stable name of the error; also for a caption that did not reach the object's metadata.
    error_code: str | None
    #: The error in words.
    error: str | None
    queued_at: datetime | None
    started_at: datetime | None
    captioned_at: datetime | None
    metadata_written_at: datetime | None
    updated_at: datetime | None

    def __str__(self) -> str:
        """The caption; empty without one."""
        return self.caption or ""

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read a row as the API gives it; members of later releases are left out.

        Raises:
            UnexpectedAnswer: a member is missing or has another type.
        """
        row = _members(document)
        result = row.get("result")
        regions, code = list(regions_of(result)), _text_or_none(row, "error_code")
        return cls(
            id=_text_or_none(row, "id"),
            uri=_text(row, "uri"),
            bucket=_text(row, "bucket"),
            object_name=_text(row, "object_name"),
            generation=_whole(row, "generation"),
            task=_text(row, "task"),
            status=_status(row),
            caption=_text_or_none(row, "caption"),
            boxes=tuple(each for each in regions if isinstance(each, Box)),
            polygons=tuple(each for each in regions if isinstance(each, Polygon)),
            result=result if isinstance(result, dict) else None,
            model=_text_or_none(row, "model"),
            model_revision=_text_or_none(row, "model_revision"),
            edited_by=_text_or_none(row, "edited_by"),
            edited_at=_time_or_none(row, "edited_at"),
            copied_from=_whole_or_none(row, "copied_from"),
            content_type=_text_or_none(row, "content_type"),
            error_code=code,
            error=_text_or_none(row, "error"),
            width=_whole_or_none(row, "width"),
            height=_whole_or_none(row, "height"),
            size_bytes=_whole_or_none(row, "size_bytes"),
            queued_at=_time_or_none(row, "queued_at"),
            started_at=_time_or_none(row, "started_at"),
            captioned_at=_time_or_none(row, "captioned_at"),
            metadata_written_at=_time_or_none(row, "metadata_written_at"),
            updated_at=_time_or_none(row, "updated_at"),
        )

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Read a line of an export.

        Raises:
            UnexpectedAnswer: the line is no row.
        """
        try:
            return cls.from_document(json.loads(line))
        except ValueError:
            raise UnexpectedAnswer(f"a line of the answer is no JSON: {_short(line)}") from None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list."""

    captions: tuple[Caption, ...]
    #: `cursor` of the next part; None: this is the last part.
    next: str | None

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read `{"captions", "next"}`.

        Raises:
            UnexpectedAnswer: a member is missing or has another type.
        """
        members = _members(document)
        rows = members.get("captions")
        if not isinstance(rows, list):
            raise _unexpected("captions", rows)
        return cls(tuple(map(Caption.from_document, rows)), _text_or_none(members, "next"))


@dataclass(frozen=True, slots=True)
class Backfill:
    """The state of a backfill."""

    id: int
    #: `gs://bucket/prefix or glob`.
    source: str
    #: Objects read so far.
    listed: int
    #: Objects that had their row.
    existing: int
    #: Rows that wait for a worker, or have been captioned since.
    queued: int
    #: Rows of objects that are refused without a download: empty, too large, a wrong task.
    failed: int
    is_finished: bool

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read a backfill as the API gives it; members of later releases are left out.

        Raises:
            UnexpectedAnswer: a member is missing or has another type.
        """
        members = _members(document)
        return cls(
            id=_whole(members, "id"),
            source=_text(members, "source"),
            listed=_whole(members, "listed"),
            existing=_whole(members, "existing"),
            queued=_whole(members, "queued"),
            failed=_whole(members, "failed"),
            is_finished=_time_or_none(members, "finished_at") is not None,
        )


@dataclass(frozen=True, slots=True)
class Recaption:
    """The state of a recaption: sums over its steps so far."""

    #: Rows that are due.
    taken: int = 0
    #: Rows that met the conditions and were left, by reason.
    left: Mapping[str, int] = field(default_factory=dict)
    #: Place of the next step; None: the end.
    next: str | None = None

    def with_step(self, document: object) -> Self:
        """Add a step as the API gives it.

        Raises:
            UnexpectedAnswer: a member is missing or has another type.
        """
        members = _members(document)
        left = dict(self.left)
        counted = _members(members.get("left"))
        for reason in counted:
            left[reason] = left.get(reason, 0) + _whole(counted, reason)
        return type(self)(self.taken + _whole(members, "taken"), left, _text_or_none(members, "next"))


@dataclass(frozen=True, slots=True)
class Session:
    """Where a large file is sent."""

    #: Address of Cloud Storage for the bytes; a secret. None if the object is there already.
    address: str | None
    #: The object afterwards.
    uri: str

    @classmethod
    def from_document(cls, document: object) -> Self:
        """Read `{"session", "uri"}`.

        Raises:
            UnexpectedAnswer: a member is missing or has another type.
        """
        members = _members(document)
        return cls(_text_or_none(members, "session"), _text(members, "uri"))


@dataclass(frozen=True, slots=True)
class Change:
    """A row has changed."""

    caption: Caption
    #: `events(last_event_id=…)` goes on after this event; empty if none has come yet.
    event_id: str


@dataclass(frozen=True, slots=True)
class Reset:
    """More rows changed while no connection was open than the service sends again: read them with `search`."""

    event_id: str


def _members(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise UnexpectedAnswer(f"a JSON object was expected, not {_short(document)}")
    return document


def _text(members: Mapping[str, Any], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise _unexpected(name, value)
    return value


def _text_or_none(members: Mapping[str, Any], name: str) -> str | None:
    return None if members.get(name) is None else _text(members, name)


def _whole(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _unexpected(name, value)
    return value


def _whole_or_none(members: Mapping[str, Any], name: str) -> int | None:
    return None if members.get(name) is None else _whole(members, name)


def _time_or_none(members: Mapping[str, Any], name: str) -> datetime | None:
    value = _text_or_none(members, name)
    try:
        return None if value is None else datetime.fromisoformat(value)
    except ValueError:
        raise _unexpected(name, value) from None


def _status(members: Mapping[str, Any]) -> Status:
    value = _text(members, "status")
    try:
        return Status(value)
    except ValueError:
        raise _unexpected("status", value) from None


def _unexpected(name: str, value: object) -> UnexpectedAnswer:
    return UnexpectedAnswer(f"the member {name!r} of the answer is {_short(value)}")


def _short(value: object) -> str:
    return repr(value)[:80]
