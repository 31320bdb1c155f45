"""The shapes of the documents of backfills, for `/openapi.json`."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from gallery.schemas import RequestTime

_BACKFILL: dict[str, Any] = {
    "id": 7,
    "source": "gs://drops/2026/",
    "listed": 5000,
    "existing": 120,
    "queued": 4790,
    "adopted": 10,
    "failed": 3,
    "ended": 0,
    "queued_bytes": 9123456789,
    "left_out": {"content_type": 77},
    "started_at": "2026-11-27T09:12:24.181000+00:00",
    "updated_at": "2026-11-27T09:12:31.502113+00:00",
    "finished_at": None,
}


class BackfillStep(BaseModel):
    """A bucket whose objects are to get rows. The same document continues a backfill; only `max` may differ."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"source": "gs://drops/2026/", "max": 10000}]}
    )

    source: str = Field(
        min_length=1, max_length=4096, description="`gs://bucket`, `gs://bucket/prefix` or `gs://bucket/glob`."
    )
    task: str | None = Field(
        default=None, max_length=600, description="Asked of each object; by default its own task."
    )
    text: str | None = Field(
        default=None, max_length=600, description="Words or a box, for a task that needs them."
    )
    archived: bool = Field(default=False, description="Also objects in NEARLINE, COLDLINE and ARCHIVE.")
    since: RequestTime | None = Field(default=None, description="Objects created since then; UTC without a zone.")
    max: int | None = Field(default=None, ge=1, le=2**53, description="Most rows of the backfill.")


class Backfill(BaseModel):
    """The state of a backfill."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [_BACKFILL]})

    id: int
    source: str
    listed: int = Field(description="Objects read so far; the next five numbers are of rows, one per task.")
    existing: int = Field(description="Rows that were there before.")
    queued: int = Field(description="Rows that wait for a worker, or have been captioned since.")
    adopted: int = Field(description="Rows with the caption of a person, from the object's metadata.")
    failed: int = Field(description="Rows of objects that are refused without a download.")
    ended: int = Field(description="Rows of versions that were deleted or overwritten meanwhile.")
    queued_bytes: int
    left_out: dict[str, int] = Field(description="Other objects, by reason.")
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None = Field(description="null: repeat the request to continue.")
