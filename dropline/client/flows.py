"""The work of both clients, as generators of steps: requests, repetitions, waits. No I/O, no sleep.

`dropline.client.plain` and `dropline.client.asynchronous` carry out each step, and send the outcome back into the
flow.
"""

import re
import uuid
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import httpx2

from dropline.caption_tag import caption_tag
from dropline.client.answers import document_of
from dropline.client.content import Content, Image, content_of
from dropline.client.errors import CaptionFailed, NoAnswerYet
from dropline.client.repetition import answered
from dropline.client.results import Backfill, Caption, Page, Recaption, Session, Submitted
from dropline.client.steps import Call, Flow, Pause
from dropline.client.uploads import upload
from dropline.contract import Status
from dropline.deadline import Deadline
from dropline.errors import ClientError

#: A larger file is sent to Cloud Storage itself, in parts. Cloud Run takes requests of 32 MiB.
LARGE_BYTES = 8 * 2**20
#: Longest wait of one request for the end of a row, in seconds.
MOST_WAIT_S = 60.0
#: Seconds after an answer that came before the end of its wait, for example of a service that stops.
_AFTER_EARLY_ANSWER_S = 1.0
_SILENCE_S = 30.0
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+")


def search_conditions(words: str | None, *, best_first: bool, **conditions: str | None) -> dict[str, str | None]:
    """The conditions of a search, as parameters of the request."""
    return {"q": words, **conditions, "order": "best" if best_first else None}


class Api:
    """Makes the flows of one service."""

    def __init__(self, base_url: str, token: str | None) -> None:
        """Check the arguments.

        Raises:
            ClientError: `base_url` is no http(s) address, or the token cannot be sent.
        """
        self.base_url = _checked_url(base_url)
        if token is not None and not _HEADER_TEXT.fullmatch(token):
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
        response = yield from answered(call, Deadline.after(timeout))
        return Page.from_document(document_of(response))

    def backfill_step(self, source: str, options: Mapping[str, object]) -> Flow[Backfill]:
        """One step of a backfill: the service lists and inserts for some seconds."""
        given = {name: value for name, value in options.items() if value is not None}
        call = Call(
            "POST",
            f"{self.base_url}/api/backfills",
            self._headers,
            json={"source": source, **given},
            silence_s=60.0,
        )
        return Backfill.from_document(document_of((yield from answered(call, Deadline.after(120.0)))))

    def edit(self, caption: Caption | str, words: str | None, timeout: float) -> Flow[Caption]:
        """Replace a caption by `words`; None: put the model's caption back. Safe to repeat.

        Raises:
            ServiceError: as of `wait`.
            ClientError: the caption has no id.
        """
        name = caption if isinstance(caption, str) else caption.id
        tag = "*" if isinstance(caption, str) else f'"{caption_tag(caption.caption)}"'
        if name is None:
            raise ClientError("the caption has no id: its task is one of a later release")
        url = f"{self.base_url}/api/captions/{quote(name, safe='')}"
        headers = {**self._headers, "if-match": tag}
        if words is None:
            call = Call("POST", f"{url}/revert", headers)
        else:
            call = Call("PATCH", url, headers, json={"caption": _checked_text("caption", words)})
        return Caption.from_document(document_of((yield from answered(call, Deadline.after(timeout)))))

    def export(self, **conditions: str | None) -> Call:
        """The request for all rows as lines."""
        given = {name: value for name, value in conditions.items() if value}
        return Call("GET", f"{self.base_url}/api/export", self._headers, given, silence_s=60.0)

    def recaption_step(
        self, conditions: Mapping[str, object], before: Recaption, most: int | None
    ) -> Flow[Recaption]:
        """One step of a recaption, added to those before."""
        given = {name: value for name, value in conditions.items() if value}
        if most is not None:
            given["max"] = most - before.taken
        if before.next is not None:
            given["cursor"] = before.next
        call = Call("POST", f"{self.base_url}/api/recaptions", self._headers, json=given, silence_s=60.0)
        return before.with_step(document_of((yield from answered(call, Deadline.after(120.0)))))

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
        headers = {**self._headers, "idempotency-key": _checked_key(key)}
        given = {"task": task, "text": text}
        asked = {name: _checked_text(name, value) for name, value in given.items() if value is not None}
        content = content_of(image)
        if isinstance(content, str):
            return (yield from self._submit_address(content, asked, headers, deadline))
        part = yield from content.part(0, LARGE_BYTES)
        if part.size > LARGE_BYTES:
            uri = yield from self._upload(content, part.size, asked, headers, deadline)
            return (yield from self._submit_address(uri, asked, headers, deadline))
        file = (content.name, part.data, content.content_type)
        call = Call("POST", f"{self.base_url}/api/captions", headers, form=asked, file=file)
        return Submitted.from_document(document_of((yield from answered(call, deadline))))

    def _submit_address(
        self, uri: str, asked: Mapping[str, str], headers: Mapping[str, str], deadline: Deadline
    ) -> Flow[Submitted]:
        call = Call("POST", f"{self.base_url}/api/captions", headers, json={"uri": uri, **asked}, silence_s=60.0)
        return Submitted.from_document(document_of((yield from answered(call, deadline))))

    def _wait(self, submitted: Submitted, timeout: float, deadline: Deadline) -> Flow[Caption]:
        url = f"{self.base_url}/api/captions/{quote(submitted.id, safe='')}"
        while True:
            seconds = min(MOST_WAIT_S, deadline.remaining_s())
            end = Deadline.after(seconds)
            call = Call("GET", url, self._headers, {"wait": f"{seconds:.1f}"}, silence_s=_SILENCE_S + seconds)
            response = yield from answered(call, deadline)
            document = document_of(response)
            if response.status_code != 202:
                return _with_caption(Caption.from_document(document))
            submitted = _later(submitted, document)
            if not (left_s := deadline.remaining_s()):
                raise NoAnswerYet(submitted, timeout)
            if end.remaining_s() > _AFTER_EARLY_ANSWER_S:
                yield Pause(min(_AFTER_EARLY_ANSWER_S, left_s))

    def _upload(
        self, content: Content, size: int, asked: Mapping[str, str], headers: Mapping[str, str], deadline: Deadline
    ) -> Flow[str]:
        """Send a large file to Cloud Storage itself; the URI of the object."""
        wanted = {"size_bytes": size, "name": content.name, "content_type": content.content_type, **asked}
        call = Call("POST", f"{self.base_url}/api/uploads", headers, json=wanted)
        session = Session.from_document(document_of((yield from answered(call, deadline))))
        if session.address is not None:
            yield from upload(session.address, content, size, deadline)
        return session.uri


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


def _checked_key(key: str | None) -> str:
    if key and not _HEADER_TEXT.fullmatch(key):
        raise ClientError(f"{key[:80]!r} is no idempotency key: use printable characters of ASCII, without spaces")
    return key or uuid.uuid4().hex


def _checked_text(name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ClientError(f"{name} has a character that UTF-8 cannot encode: {value[:80]!r}") from None
    return value
