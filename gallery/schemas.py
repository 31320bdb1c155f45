"""The shapes of the API's documents, for `/openapi.json`; `gallery.documents` makes the documents."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dropline.contract import Status

_ID = "AQAGKVqP3xJABQAOZHJvcHNjYXRzL2lkYS5qcGc8Q0FQVElPTj4"
_URI = "gs://drops/cats/ida.jpg"
_CAPTION: dict[str, Any] = {
    "id": _ID,
    "uri": _URI,
    "bucket": "drops",
    "object_name": "cats/ida.jpg",
    "generation": 1732612345678901,
    "task": "<CAPTION>",
    "status": "captioned",
    "caption": "a cat on a windowsill",
    "result": None,
    "model": "florence-community/Florence-2-base-ft",
    "model_revision": "0b03b6f15a4a211370fb204aee4e7dd48887ea37",
    "edited_by": None,
    "edited_at": None,
    "content_type": "image/jpeg",
    "size_bytes": 81234,
    "md5_hash": None,
    "crc32c": "yZRlqg==",
    "width": 1200,
    "height": 800,
    "attempts": 1,
    "error_code": None,
    "error": None,
    "event_time": "2026-11-26T09:12:24.181000+00:00",
    "queued_at": "2026-11-26T09:12:24.502113+00:00",
    "started_at": "2026-11-26T09:12:24.530412+00:00",
    "captioned_at": "2026-11-26T09:12:25.011876+00:00",
    "metadata_written_at": "2026-11-26T09:12:25.160322+00:00",
    "updated_at": "2026-11-26T09:12:25.160322+00:00",
    "redo": False,
    "redo_failed_at": None,
    "copied_from": None,
}
_SUBMITTED = {"id": _ID, "uri": _URI, "task": "<CAPTION>", "status": "queued"}


def _with_zone(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


#: A time of a request; in UTC without a zone.
RequestTime = Annotated[datetime, AfterValidator(_with_zone)]


def _example(document: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", json_schema_extra={"examples": [document]})


class Caption(BaseModel):
    """A row of the table `captions`: one object version and one task, with its caption or error."""

    model_config = _example(_CAPTION)

    id: str | None = Field(description="Names the caption in this API; opaque. null: a task of a later release.")
    uri: str
    bucket: str
    object_name: str
    generation: int = Field(description="Version of the object in Cloud Storage.")
    task: str = Field(description="Task prompt of Florence-2, with its text.")
    status: Status
    caption: str | None
    result: dict[str, Any] | None = Field(description="Boxes, polygons and labels, in pixels of the picture.")
    model: str | None = Field(description="`person` for a caption of a person.")
    model_revision: str | None
    edited_by: str | None = Field(
        description="Who wrote the caption; `object metadata`: the object arrived with it. null: the model."
    )
    edited_at: datetime | None
    content_type: str | None
    size_bytes: int | None
    md5_hash: str | None
    crc32c: str | None
    width: int | None
    height: int | None
    attempts: int
    error_code: str | None
    error: str | None
    event_time: datetime | None
    queued_at: datetime
    started_at: datetime | None
    captioned_at: datetime | None
    metadata_written_at: datetime | None
    updated_at: datetime
    redo: bool = Field(description="A new caption is on the way; this one stays until then.")
    redo_failed_at: datetime | None = Field(description="When the last redo was given up; `error` has the reason.")
    copied_from: int | None = Field(
        description="Number of the row whose caption was taken for identical bytes; null: the model's own."
    )


class SubmittedCaption(BaseModel):
    """A caption to wait for, perhaps still without a row."""

    model_config = _example(_SUBMITTED)

    id: str
    uri: str
    task: str
    status: Status


class CaptionList(BaseModel):
    """A part of a list, the newest rows first."""

    model_config = _example({"captions": [_CAPTION], "next": "AQAAAAAAAAAq"})

    captions: list[Caption]
    next: str | None = Field(description="`cursor` of the next part; null: this is the last part.")


class Address(BaseModel):
    """An image that is somewhere already."""

    model_config = _example({"uri": "gs://drops/cats/ida.jpg", "task": "<OD>"})

    uri: str = Field(min_length=1, max_length=4096, description="`gs://bucket/name`, or an http(s) address.")
    task: str | None = Field(
        default=None, max_length=600, description="Task prompt; by default that of the rules."
    )
    text: str | None = Field(
        default=None, max_length=600, description="Words or a box, for a task that needs them."
    )


class Edit(BaseModel):
    """A person's caption."""

    model_config = _example({"caption": "Ida on the windowsill, 1962"})

    caption: str = Field(min_length=1, max_length=8192, description="At most 8,192 bytes of UTF-8.")


class UploadRequest(BaseModel):
    """A large file that the client will send to Cloud Storage itself."""

    model_config = _example({"name": "panorama.tif", "content_type": "image/tiff", "size_bytes": 48123456})

    size_bytes: int = Field(ge=1, le=2**53, description="Exact size of the file.")
    name: str = Field(default="", max_length=1024, description="Name of the file; the end of the object's name.")
    content_type: str = Field(default="", max_length=200)
    task: str | None = Field(default=None, max_length=600)
    text: str | None = Field(default=None, max_length=600)


class UploadSession(BaseModel):
    """Where the client sends the file, by the protocol of Cloud Storage's resumable uploads."""

    model_config = _example(
        {
            "session": "https://storage.googleapis.com/upload/storage/v1/b/drops/o?uploadType=resumable&upload_id=ABC",
            "uri": "gs://drops/submitted/4f1d/panorama.tif",
        }
    )

    session: str | None = Field(
        description="Address for the PUT of the bytes; secret, and valid for a week. null: the object of the "
        "`Idempotency-Key` is there already."
    )
    uri: str = Field(description="The object afterwards. POST /api/captions with this uri gives the id.")


class Problem(BaseModel):
    """An error, as in RFC 9457."""

    model_config = _example(
        {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "Postgres did not answer: connection refused; check that Postgres runs",
            "code": "database_unavailable",
        }
    )

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str = Field(description="What is wrong, and what to do.")
    code: str = Field(description="Stable name of the error.")


_PROBLEM: dict[str, Any] = {
    "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
}
_MEANINGS = {
    400: "The request is malformed.",
    401: "A token is required, or the token is unknown.",
    403: "The token lacks the scope, or the request comes from another site.",
    404: "There is no such caption, object or path.",
    408: "The body of the request arrived too slowly.",
    413: "The request or the image is too large.",
    422: "A value cannot be used.",
    429: "Too many requests; `Retry-After` has the seconds.",
    500: "The gallery is set up wrongly, or has a fault.",
    503: "Postgres, Redis or Cloud Storage is away; `Retry-After` has the seconds.",
}
#: The answers of every route in case of an error.
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": _PROBLEM} for status, meaning in _MEANINGS.items()
}
#: The further answers of edits.
EDIT_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": meaning, "content": _PROBLEM}
    for status, meaning in {
        409: "The object version was deleted or overwritten.",
        412: "The caption has changed since it was read.",
        428: "`If-Match` is missing.",
    }.items()
}
EVENTS_EXAMPLE = {
    "schema": {"type": "string"},
    "example": 'id: 812:812:\nevent: caption\ndata: {"object_name":"cats/ida.jpg","status":"captioned", …}\n\n',
}
#: Of the route that takes a file or an address.
SUBMISSION_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/Address"}},
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["file"],
                "properties": {
                    "file": {"type": "string", "format": "binary"},
                    "task": {"type": "string", "maxLength": 600},
                    "text": {"type": "string", "maxLength": 600},
                },
            }
        },
    },
}
