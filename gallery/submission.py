"""Reading a submission from a request: a file in a form, or an address in JSON; untrusted."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import BinaryIO

from fastapi import Request
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile

from dropline.contract import TaskRequest
from dropline.errors import InvalidTask, PermanentError
from gallery.problems import words_of
from gallery.schemas import Address

_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_MOST_FIELDS = 10
_MOST_FIELD_BYTES = 4_096


class InvalidRequest(PermanentError):
    """A request lacks a part, or has a part of the wrong form."""

    default_code = "invalid_request"


@dataclass(frozen=True, slots=True)
class FileSubmission:
    """A file of a form."""

    content: BinaryIO
    name: str
    content_type: str | None
    task: TaskRequest | None


@dataclass(frozen=True, slots=True)
class AddressSubmission:
    """An image that is somewhere already."""

    uri: str
    task: TaskRequest | None

    @property
    def is_remote(self) -> bool:
        """True for an http or https address; False for an object of the bucket."""
        return self.uri.lower().startswith(("http://", "https://"))


@asynccontextmanager
async def read_submission(request: Request) -> AsyncIterator[FileSubmission | AddressSubmission]:
    """The submission of a request; a file is deleted at the end of the block.

    Raises:
        HTTPException: 400, the form is malformed.
        InvalidRequest: neither a form with a file, nor JSON with an address.
        InvalidTask: the task or its text cannot be used.
        RequestTooLarge.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with _form(request) as form:
            yield _file(form)
    elif kind == "application/json":
        yield _address(await request.body())
    else:
        raise InvalidRequest("send multipart/form-data with the field `file`, or application/json with `uri`")


def read_task(task: str | None, text: str | None) -> TaskRequest | None:
    """The task of two fields; None without a task.

    Raises:
        InvalidTask: the task is unknown, or the text is missing, unexpected or unsafe.
    """
    if not task:
        if text:
            raise InvalidTask("`text` belongs to a task, and no task is given")
        return None
    joint = "" if not text or task.lstrip().startswith("<") else ":"
    return TaskRequest.parse(f"{task}{joint}{text or ''}")


def read_key(key: str | None, sender: str) -> str | None:
    """The `Idempotency-Key`, which two senders may use for different objects; None without one.

    Raises:
        InvalidRequest: the key is longer than 200 characters, or has others than those of printable ASCII.
    """
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise InvalidRequest("Idempotency-Key must have 1 to 200 printable characters of ASCII, without spaces")
    return f"{sender}:{key}"


@asynccontextmanager
async def _form(request: Request) -> AsyncIterator[FormData]:
    reading = request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=_MOST_FIELD_BYTES)
    try:
        form = await reading
    except UnicodeError:
        raise InvalidRequest("the form has text that its `charset` does not have; send UTF-8") from None
    try:
        yield form
    finally:
        await form.close()


def _file(form: FormData) -> FileSubmission:
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise InvalidRequest("the form has no file in its field `file`")
    task, text = form.get("task"), form.get("text")
    if isinstance(task, UploadFile) or isinstance(text, UploadFile):
        raise InvalidRequest("`task` and `text` are no files")
    return FileSubmission(file.file, file.filename or "", file.content_type, read_task(task, text))


def _address(body: bytes) -> AddressSubmission:
    try:
        address = Address.model_validate_json(body)
    except ValidationError as error:
        raise InvalidRequest(words_of(error.errors())) from None
    return AddressSubmission(address.uri, read_task(address.task, address.text))
