"""The work of both clients, as generators of steps: requests, repetitions, waits. No I/O, no sleep.

`dropline.client.plain` and `dropline.client.asynchronous` carry out each step, and send the outcome back into the
flow.
"""

import mimetypes
import os
import random
import re
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx2

from dropline.client.answers import (
    TRANSIENT,
    document_of,
    error_of,
    is_transient,
    problem_of,
    received_bytes,
    retry_after_s,
)
from dropline.client.errors import CaptionFailed, NoAnswerYet, ServiceError, UnexpectedAnswer
from dropline.client.results import Caption, Page, Session, Submitted
from dropline.client.steps import Call, Flow, Part, Pause, Read
from dropline.contract import Status
from dropline.deadline import Deadline
from dropline.errors import ClientError

#: An image: bytes, a path, or an address (`gs://bucket/name`, `https://…`).
Image = bytes | str | os.PathLike[str]

#: A larger file is sent to Cloud Storage itself, in parts. Cloud Run takes requests of 32 MiB.
LARGE_BYTES = 8 * 2**20
#: Bytes of one part; Cloud Storage requires a multiple of 256 KiB.
PART_BYTES = 8 * 2**20
#: Longest wait of one request for the end of a row, in seconds.
MOST_WAIT_S = 60.0
#: Seconds for the answer to the last request beyond the deadline.
_LEAST_SILENCE_S = 5.0
_SILENCE_S = 30.0
_REPETITIONS = 4
_ADDRESS = re.compile(r"(?:gs|https?)://", re.IGNORECASE)
_TOKEN = re.compile(r"[\x21-\x7e]+")
_BYTES = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Content:
    """An image to upload."""

    #: Of the file; `image` for bytes.
    name: str
    #: Bytes in memory, or the file's path.
    source: bytes | Path

    @property
    def content_type(self) -> str:
        """By the name; the service looks at the bytes."""
        return mimetypes.guess_type(self.name)[0] or _BYTES

    def part(self, offset: int, length: int) -> Flow[Part]:
        """A part of the bytes."""
        if isinstance(self.source, bytes):
            return Part(self.source[offset : offset + length], len(self.source))
        part: Part = yield Read(self.source, offset, length)
        return part


class Api:
    """Makes the flows of one service."""

    def __init__(self, base_url: str, token: str | None) -> None:
        """Check the arguments.

        Raises:
            ClientError: `base_url` is no http(s) address, or the token cannot be sent.
        """
        self.base_url = _checked_url(base_url)
        if token is not None and not _TOKEN.fullmatch(token):
            raise ClientError("the token has characters that no token of the gallery has, such as spaces")
        self._headers = {} if token is None else {"authorization": f"Bearer {token}"}

    def caption(
        self, image: Image, task: str | None, text: str | None, timeout: float, key: str | None
    ) -> Flow[Caption]:
        """Submit and wait. Raises as `submit` and `wait`."""
        deadline = Deadline.after(timeout)
        submitted = yield from self._submit(image, task, text, key, deadline)
        return (yield from self._wait(submitted, timeout, deadline))

    def submit(
        self, image: Image, task: str | None, text: str | None, timeout: float, key: str | None
    ) -> Flow[Submitted]:
        """Submit an image, with the same idempotency key in each repetition.

        Raises:
            ServiceError: the service refused, or gave no answer.
            OSError: the file cannot be read.
            ClientError: the image is not one of the types.
        """
        return (yield from self._submit(image, task, text, key, Deadline.after(timeout)))

    def wait(self, submitted: Submitted | str, timeout: float) -> Flow[Caption]:
        """Wait until the row has ended.

        Raises:
            CaptionFailed: the row ended without a caption.
            NoAnswerYet: the row has not ended within `timeout` seconds.
            ServiceError: the service refused, or gave no answer.
        """
        if isinstance(submitted, str):
            submitted = Submitted(submitted, "", "", Status.QUEUED)
        return (yield from self._wait(submitted, timeout, Deadline.after(timeout)))

    def page(self, conditions: Mapping[str, str | None], cursor: str | None, timeout: float) -> Flow[Page]:
        """One part of a list."""
        given = {name: value for name, value in {**conditions, "cursor": cursor}.items() if value}
        call = Call("GET", f"{self.base_url}/api/captions", self._headers, given)
        response = yield from _answered(call, Deadline.after(timeout))
        return Page.from_document(document_of(response))

    def stream(self, last_event_id: str) -> Call:
        """The request for events."""
        headers = {**self._headers, "accept": "text/event-stream", "cache-control": "no-store"}
        if last_event_id:
            headers["last-event-id"] = last_event_id
        # The service sends a comment every 25 seconds.
        return Call("GET", f"{self.base_url}/api/events", headers, silence_s=70.0)

    def _submit(
        self, image: Image, task: str | None, text: str | None, key: str | None, deadline: Deadline
    ) -> Flow[Submitted]:
        headers = {**self._headers, "idempotency-key": key or uuid.uuid4().hex}
        asked = {name: value for name, value in (("task", task), ("text", text)) if value is not None}
        content = content_of(image)
        if isinstance(content, str):
            return (yield from self._submit_address(content, asked, headers, deadline))
        part = yield from content.part(0, LARGE_BYTES)
        if part.size > LARGE_BYTES:
            uri = yield from self._upload(content, part.size, asked, headers, deadline)
            return (yield from self._submit_address(uri, asked, headers, deadline))
        file = (content.name, part.data, content.content_type)
        call = Call("POST", f"{self.base_url}/api/captions", headers, form=asked, file=file)
        return Submitted.from_document(document_of((yield from _answered(call, deadline))))

    def _submit_address(
        self, uri: str, asked: Mapping[str, str], headers: Mapping[str, str], deadline: Deadline
    ) -> Flow[Submitted]:
        call = Call("POST", f"{self.base_url}/api/captions", headers, json={"uri": uri, **asked}, silence_s=60.0)
        return Submitted.from_document(document_of((yield from _answered(call, deadline))))

    def _wait(self, submitted: Submitted, timeout: float, deadline: Deadline) -> Flow[Caption]:
        url = f"{self.base_url}/api/captions/{quote(submitted.id, safe='')}"
        while True:
            seconds = min(MOST_WAIT_S, deadline.remaining_s())
            call = Call("GET", url, self._headers, {"wait": f"{seconds:.1f}"}, silence_s=_SILENCE_S + seconds)
            response = yield from _answered(call, deadline)
            document = document_of(response)
            if response.status_code != 202:
                return _with_caption(Caption.from_document(document))
            submitted = _later(submitted, document)
            if not deadline.remaining_s():
                raise NoAnswerYet(submitted, timeout)

    def _upload(
        self, content: Content, size: int, asked: Mapping[str, str], headers: Mapping[str, str], deadline: Deadline
    ) -> Flow[str]:
        """Send a large file to Cloud Storage itself; the URI of the object."""
        wanted = {"size_bytes": size, "name": content.name, "content_type": content.content_type, **asked}
        call = Call("POST", f"{self.base_url}/api/uploads", headers, json=wanted)
        session = Session.from_document(document_of((yield from _answered(call, deadline))))
        offset: int | None = 0
        while offset is not None:
            part = yield from content.part(offset, PART_BYTES)
            if part.size != size:
                raise ClientError(f"{content.name} was changed during its upload")
            offset = yield from _sent(session.address, part.data, offset, size, deadline)
        return session.uri


def content_of(image: Image) -> Content | str:
    """The image to upload, or the address of an image that is somewhere already.

    Raises:
        ClientError: neither bytes nor a path nor an address.
    """
    match image:
        case bytes():
            return Content("image", image)
        case str() if _ADDRESS.match(image):
            return image
        case str() | os.PathLike():
            path = Path(image)
            return Content(path.name, path)
    raise ClientError(f"an image is bytes, a path or an address, not {type(image).__name__}")


@dataclass(frozen=True, slots=True)
class Tried:
    """The outcome of one request."""

    response: httpx2.Response | None
    #: The error if a repetition can help.
    failure: ServiceError | None

    @property
    def retry_after_s(self) -> float:
        """The seconds of `Retry-After`; 0 without one."""
        return 0.0 if self.response is None else retry_after_s(self.response)

    def required(self) -> httpx2.Response:
        """The response; raises the failure."""
        if self.failure is not None or self.response is None:
            raise self.failure or UnexpectedAnswer("no answer")
        return self.response


def pauses() -> Iterator[float]:
    """Seconds between repetitions: growing, and jittered, so that clients do not come back together."""
    for number in range(_REPETITIONS):
        yield 0.25 * 2**number * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


def _answered(call: Call, deadline: Deadline) -> Flow[httpx2.Response]:
    """The response, after repetitions where these can help. Every request is safe to repeat.

    Raises:
        ServiceError: no repetition had a response that is not transient, or the deadline is too near for one more.
    """
    for pause in pauses():
        tried = yield from _tried(_within(call, deadline))
        wait_s = max(pause, tried.retry_after_s)
        if tried.failure is None or wait_s > deadline.remaining_s():
            return tried.required()
        yield Pause(wait_s)
    tried = yield from _tried(_within(call, deadline))
    return tried.required()


def _within(call: Call, deadline: Deadline) -> Call:
    return replace(call, silence_s=min(call.silence_s, deadline.remaining_s() + _LEAST_SILENCE_S))


def _tried(call: Call) -> Flow["Tried"]:
    """The response, and the error if a repetition can help."""
    try:
        response: httpx2.Response = yield call
    except httpx2.RequestError as error:
        if not is_transient(error):
            raise error_of(error) from error
        return Tried(None, error_of(error))
    return Tried(response, problem_of(response) if response.status_code in TRANSIENT else None)


def _sent(address: str, data: bytes, offset: int, size: int, deadline: Deadline) -> Flow[int | None]:
    """Send one part; the number of bytes that Cloud Storage has, or None if the object is complete.

    After a failure Cloud Storage is asked for the number: a part may have arrived without its answer.
    """
    last = offset + len(data) - 1
    # The session's address is the credential; the token is for the service alone.
    call = Call("PUT", address, {"content-range": f"bytes {offset}-{last}/{size}"}, content=data, silence_s=60.0)
    tried = yield from _tried(call)
    if tried.failure is None:
        return received_bytes(tried.required())
    query = Call("PUT", address, {"content-range": f"bytes */{size}"}, content=b"")
    return received_bytes((yield from _answered(query, deadline)))


def _with_caption(caption: Caption) -> Caption:
    if caption.status is not Status.CAPTIONED:
        raise CaptionFailed(caption)
    return caption


def _later(submitted: Submitted, document: object) -> Submitted:
    """The state of the row now; the answer may have the status alone."""
    known = {"id": submitted.id, "uri": submitted.uri, "task": submitted.task}
    return Submitted.from_document({**known, **document} if isinstance(document, dict) else document)


def _checked_url(base_url: str) -> str:
    try:
        parts = urlsplit(base_url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and not (parts.query or parts.fragment)
        httpx2.URL(base_url)
    except (ValueError, httpx2.InvalidURL):
        usable = False
    if not usable:
        raise ClientError(f"{base_url!r} is not the address of a gallery, such as http://127.0.0.1:18406")
    return base_url.rstrip("/")
