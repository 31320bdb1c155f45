"""The client for plain code: carries out the flows step by step."""

import time
from collections.abc import Generator
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx2

from dropline.client.answers import check, error_of
from dropline.client.content import Image
from dropline.client.errors import Problem
from dropline.client.feed import MOST_EVENT_BYTES, EventFeed
from dropline.client.flows import Api, search_conditions
from dropline.client.results import Backfill, Caption, Change, Recaption, Reset, Submitted
from dropline.client.steps import Call, Flow, Pause, Read, Step
from dropline.client.transport import options

T = TypeVar("T")


class Client:
    """Captions of a Dropline service, by its HTTP API. Threads may share a client.

    >>> from dropline import Client
    >>> with Client("http://127.0.0.1:18406") as dropline:
    ...     print(dropline.caption("photo.jpg"))
    a purple star
    """

    def __init__(
        self, base_url: str, token: str | None = None, *, transport: httpx2.BaseTransport | None = None
    ) -> None:
        """Open no connection yet.

        Args:
            base_url: of the service, as `http://127.0.0.1:18406`.
            token: of the service (`dropline gallery token`), with the scopes `read` and `submit`.
            transport: how requests are sent, for tests and unusual networks.

        Raises:
            ClientError: the address or the token is malformed.
        """
        self._api = Api(base_url, token)
        self._http = httpx2.Client(transport=transport, **options(self._api.base_url))

    def __repr__(self) -> str:
        return f"Client({self._api.base_url!r})"

    def caption(
        self,
        image: Image,
        *,
        task: str | None = None,
        text: str | None = None,
        timeout: float = 300.0,
        key: str | None = None,
    ) -> Caption:
        """Submit an image, wait, and return the answer.

        Args:
            image: bytes, a path, `gs://bucket/name`, or an http(s) address that the service fetches. A file or
                bytes are uploaded, and a large file is sent to Cloud Storage in parts.
            task: Florence-2 task prompt, as `<OD>` or `od`; None: that of the object, or of the service's rules.
            text: the words or the box of a task that needs them.
            timeout: seconds for all of it; a request in progress may add some.
            key: two submissions with one key are one object; None: a new key. Repetitions of this call after a
                lost answer use the same key.

        Raises:
            CaptionFailed: the row ended without a caption; `error.caption` has the reason.
            NoAnswerYet: no answer within `timeout`; `wait(error.id)` waits again.
            Problem: the service refused, for example without a token (401).
            ServiceUnreachable, ServiceTimeout, UnexpectedAnswer: no answer of a Dropline service.
            ClientError, OSError: the argument is no image, or the file cannot be read.
        """
        return self._run(self._api.caption(image, task, text, timeout, key))

    def submit(
        self,
        image: Image,
        *,
        task: str | None = None,
        text: str | None = None,
        timeout: float = 300.0,
        key: str | None = None,
    ) -> Submitted:
        """Submit an image and do not wait; the arguments and errors are those of `caption`."""
        return self._run(self._api.submit(image, task, text, timeout, key))

    def wait(self, submitted: Submitted | str, *, timeout: float = 300.0) -> Caption:
        """Wait for the answer to a submission, or to the id of one; the errors are those of `caption`."""
        return self._run(self._api.wait(submitted, timeout))

    def search(
        self,
        words: str | None = None,
        *,
        status: str | None = None,
        task: str | None = None,
        prefix: str | None = None,
        model: str | None = None,
        best_first: bool = False,
    ) -> Generator[Caption, None, None]:
        """Rows that meet every condition, the newest first; further pages are read as the iterator goes on.

        Args:
            words: of the caption; the last one may be unfinished.
            status: for example `failed`.
            task: task prompt, with or without its text.
            prefix: of the object name, or of its `gs://` URI.
            model: the checkpoint.
            best_first: the 50 best matches of the words, and no further pages.

        Raises:
            ServiceError: as of `caption`, at each page.
        """
        conditions = search_conditions(
            words, best_first=best_first, status=status, task=task, prefix=prefix, model=model
        )
        cursor: str | None = None
        while True:
            page = self._run(self._api.page(conditions, cursor, timeout=60.0))
            yield from page.captions
            if (cursor := page.next) is None:
                return

    def backfill(
        self,
        source: str,
        *,
        task: str | None = None,
        text: str | None = None,
        archived: bool = False,
        max: int | None = None,  # noqa: A002 - the name of the option everywhere
    ) -> Generator[Backfill, None, None]:
        """Rows for the objects that are in a bucket already; the state after each step of some seconds.

        The service does nothing between two steps: iterate to the end. After an error, or at any time, the same
        call continues. The token needs the scope `edit`.

        Args:
            source: `gs://bucket`, `gs://bucket/prefix` or `gs://bucket/glob`.
            task: asked of each object; None: its own.
            text: the words or the box of a task that needs them.
            archived: also objects in NEARLINE, COLDLINE and ARCHIVE.
            max: most rows.

        Raises:
            ServiceError: as of `caption`, at each step.
        """
        options = {"task": task, "text": text, "archived": archived, "max": max}
        while True:
            state = self._run(self._api.backfill_step(source, options))
            yield state
            if state.is_finished:
                return

    def edit(self, caption: Caption | str, words: str, *, timeout: float = 60.0) -> Caption:
        """Replace a caption by a person's; the row afterwards. The token needs the scope `edit`.

        Args:
            caption: the row as it was read, which must still have this caption; or an id: any is replaced.
            words: of the person, at most 8,192 bytes of UTF-8.
            timeout: seconds for all of it.

        Raises:
            Problem: the service refused; status 412: the caption has changed since it was read.
            ServiceUnreachable, ServiceTimeout, UnexpectedAnswer: no answer of a Dropline service.
            ClientError: the argument has no id.
        """
        return self._run(self._api.edit(caption, words, timeout))

    def revert(self, caption: Caption | str, *, timeout: float = 60.0) -> Caption:
        """Put the model's caption back; arguments and errors are those of `edit`.

        Where the model has made no caption yet, a worker makes one; the person's stays until then.
        """
        return self._run(self._api.edit(caption, None, timeout))

    def export(
        self,
        *,
        bucket: str | None = None,
        prefix: str | None = None,
        task: str | None = None,
        model: str | None = None,
        revision: str | None = None,
        status: str = "captioned",
    ) -> Generator[Caption, None, None]:
        """All rows that meet every condition, in the order of their ids: one answer, read while it arrives.

        Args:
            bucket: of the objects.
            prefix: of the object name.
            task: task prompt, with or without its text.
            model: the checkpoint.
            revision: of the checkpoint.
            status: of the rows.

        Raises:
            ServiceError: as of `caption`; the connection was lost before the last row.
        """
        request = self._api.export(
            bucket=bucket, prefix=prefix, task=task, model=model, revision=revision, status=status
        )
        try:
            with self._http.stream(**request.arguments()) as response:
                if response.is_error:
                    response.read()
                check(response)
                for line in response.iter_lines():
                    yield Caption.from_line(line)
        except httpx2.RequestError as error:
            raise error_of(error) from error

    def recaption(
        self,
        *,
        max: int | None = None,  # noqa: A002 - the name of the option everywhere
        **conditions: object,
    ) -> Generator[Recaption, None, None]:
        """Have rows captioned again, or ask a further question about their objects; the sums after each step.

        Iterate to the end. A repetition takes the rows that are left. The token needs the scope `edit`.

        Args:
            max: most rows.
            conditions: members of `POST /api/recaptions`, as `bucket`, `prefix`, `model`, `to_task`, `force`.

        Raises:
            ServiceError: as of `caption`, at each step.
        """
        state = Recaption()
        while True:
            state = self._run(self._api.recaption_step(conditions, state, max))
            yield state
            if state.next is None:
                return

    def events(self, last_event_id: str | None = None) -> Generator[Change | Reset, None, None]:
        """Each change of a row, as it happens; connects again after a lost connection, and misses nothing.

        A row may come twice after a lost connection. A `Reset` stands for more changes than are sent again.

        Args:
            last_event_id: `event_id` of an earlier event: the changes since then come first. None: from now on.

        Raises:
            ServiceError: the service refused, or stayed away for some minutes.
        """
        feed = EventFeed(self._api, last_event_id)
        while True:
            failure: httpx2.RequestError | Problem | None = None
            response: httpx2.Response | None = None
            try:
                with self._http.stream(**feed.request.arguments()) as response:
                    if response.is_error:
                        response.read()
                    feed.check(response)
                    for event in httpx2.EventSource(response, MOST_EVENT_BYTES):
                        if (item := feed.take(event)) is not None:
                            yield item
            except (httpx2.RequestError, Problem) as error:
                failure = error
            time.sleep(feed.pause_after(failure, response))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, flow: Flow[T]) -> T:
        """Carry out the steps of a flow; its result."""
        try:
            step = next(flow)
            while True:
                try:
                    outcome = self._take(step)
                except (httpx2.RequestError, OSError) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(outcome)
        except StopIteration as end:
            result: T = end.value
            return result

    def _take(self, step: Step) -> Any:
        match step:
            case Call():
                return self._http.request(**step.arguments())
            case Read():
                return step.run()
            case Pause(seconds):
                return time.sleep(seconds)
