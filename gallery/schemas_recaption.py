"""The shapes of the documents of recaptions and of histories, for `/openapi.json`."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dropline.contract import Status
from gallery.schemas import RequestTime

_REPLACED: dict[str, Any] = {
    "caption": "a cat",
    "result": None,
    "model": "florence-community/Florence-2-base-ft",
    "model_revision": "0b03b6f15a4a211370fb204aee4e7dd48887ea37",
    "captioned_at": "2026-03-02T09:12:25.011876+00:00",
    "edited_by": None,
    "edited_at": None,
    "replaced_at": "2026-11-27T10:02:11.501123+00:00",
}


class RecaptionStep(BaseModel):
    """The rows that are captioned again: a row has to meet every condition."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"bucket": "drops", "prefix": "2025/", "max": 10000}]}
    )

    objects: list[Annotated[str, Field(max_length=4096)]] = Field(
        default=[], max_length=500, description="`gs://bucket/name`, or with `#generation`."
    )
    bucket: str = Field(default="", max_length=300)
    prefix: str = Field(default="", max_length=1100, description="Of the object name.")
    task: str = Field(default="", max_length=600, description="Task prompt, with or without its text.")
    model: str = Field(default="", max_length=300, description="The model that made the caption.")
    revision: str = Field(default="", max_length=300, description="The revision that made the caption.")
    older_than: RequestTime | None = Field(default=None, description="Captioned before; UTC without a zone.")
    status: list[Status] = Field(default=[], description="With `to_task` alone: other rows than captioned ones.")
    to_task: str | None = Field(
        default=None, max_length=600, description="Instead: the objects of the rows get a row of this task."
    )
    text: str | None = Field(default=None, max_length=600, description="Words or a box for `to_task`.")
    target_model: str | None = Field(
        default=None,
        max_length=300,
        description="Rows of this model are left; by default that of the last worker.",
    )
    target_revision: str | None = Field(default=None, max_length=300)
    force: bool = Field(default=False, description="No row is left: those of the target are taken, too.")
    retry_failed: bool = Field(default=False, description="Rows whose last redo failed are taken, too.")
    max: int | None = Field(default=None, ge=1, le=2**53, description="Most rows of this request.")
    cursor: str = Field(default="", max_length=100, description="`next` of the answer before.")


class Recaption(BaseModel):
    """One step of a recaption."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"taken": 812, "left": {"current": 4188}, "next": "AQAAAAAAAAAq"}]},
    )

    taken: int = Field(description="Rows that are due now.")
    left: dict[str, int] = Field(description="Rows that met the conditions and were left, by reason.")
    next: str | None = Field(description="`cursor` of the next request; null: the end, or `max` is reached.")


class ReplacedCaption(BaseModel):
    """A replaced caption."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_REPLACED]})

    caption: str
    result: dict[str, Any] | None
    model: str | None
    model_revision: str | None
    captioned_at: datetime | None
    edited_by: str | None = Field(description="null: a caption of the model.")
    edited_at: datetime | None
    replaced_at: datetime


class History(BaseModel):
    """The replaced captions of a row."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"history": [_REPLACED]}]})

    history: list[ReplacedCaption] = Field(description="The newest first; 100 at most.")
