"""Pub/Sub for tests: real clients against a running emulator, and an HTTP endpoint to push to."""

import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any, Self

import grpc
from google.api_core.exceptions import DeadlineExceeded
from google.cloud import pubsub_v1  # type: ignore[import-untyped]  # a namespace without a marker
from google.cloud.pubsub_v1.subscriber.futures import StreamingPullFuture
from google.cloud.pubsub_v1.subscriber.message import Message
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient as PlainSubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import StreamingPullRequest, StreamingPullResponse

#: Longer than anything takes on a busy machine.
PATIENCE = 60.0
#: Called with the reason why Google's emulator is known to fail the running test.
Differs = Callable[[str], None]
_UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


@dataclass
class Pubsub:
    """The real clients of an emulator, and a project for these clients alone."""

    host: str
    project: str
    publisher: pubsub_v1.PublisherClient
    subscriber: pubsub_v1.SubscriberClient
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    @contextmanager
    def connect(cls, host: str, project: str) -> Iterator[Self]:
        """Clients for an emulator at HOST:PORT, closed at the end."""
        publisher = pubsub_v1.PublisherClient(
            transport=PublisherGrpcTransport(channel=grpc.insecure_channel(host, _UNLIMITED))
        )
        subscriber = pubsub_v1.SubscriberClient(
            transport=SubscriberGrpcTransport(channel=grpc.insecure_channel(host, _UNLIMITED))
        )
        try:
            yield cls(host, f"projects/{project}", publisher, subscriber)
        finally:
            publisher.stop()
            publisher.transport.close()
            subscriber.close()

    def new_name(self, collection: str) -> str:
        """An unused name."""
        return f"{self.project}/{collection}/name-{next(self._numbers)}"

    def topic(self) -> str:
        """Create a topic; returns the topic's name."""
        name = self.new_name("topics")
        self.publisher.create_topic(name=name)
        return name

    def subscription(self, topic: str, **settings: Any) -> str:
        """Create a subscription; returns the subscription's name."""
        name = self.new_name("subscriptions")
        self.subscriber.create_subscription(request={"name": name, "topic": topic, **settings})
        return name

    def publish(self, topic: str, data: bytes = b"", **attributes: str) -> str:
        """Publish a message, and wait for the server's answer; returns the message id."""
        return str(self.publisher.publish(topic, data, **attributes).result(timeout=PATIENCE))

    def pull(self, subscription: str, count: int = 1) -> list[Any]:
        """Pull until `count` messages have come; fails after PATIENCE seconds."""
        received: list[Any] = []
        deadline = time.monotonic() + PATIENCE
        while len(received) < count:
            assert time.monotonic() < deadline, f"{len(received)} of {count} messages came"
            received += self.pull_once(subscription, count - len(received))
        return received

    def pull_payloads(self, subscription: str, count: int = 1) -> list[bytes]:
        """Pull and acknowledge `count` messages; returns the sorted payloads."""
        received = self.pull(subscription, count)
        self.acknowledge(subscription, *received)
        return sorted(each.message.data for each in received)

    def acknowledge(self, subscription: str, *received: Any) -> None:
        """Acknowledge pulled messages."""
        self.subscriber.acknowledge(subscription=subscription, ack_ids=[each.ack_id for each in received])

    def set_deadline(self, subscription: str, seconds: int, *received: Any) -> None:
        """Move pulled messages' deadlines to `seconds` from now; 0 gives the messages back."""
        self.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=[each.ack_id for each in received], ack_deadline_seconds=seconds
        )

    def pull_once(self, subscription: str, limit: int = 1, timeout: float = 5) -> list[Any]:
        """The messages of a single pull within `timeout` seconds, possibly none."""
        try:
            response = self.subscriber.pull(
                subscription=subscription, max_messages=limit, timeout=timeout, retry=None
            )
        except DeadlineExceeded:
            return []
        return list(response.received_messages)

    @contextmanager
    def streaming(self, subscription: str, callback: Callable[[Message], object]) -> Iterator[StreamingPullFuture]:
        """The real client's streaming pull, ended when the block ends."""
        stream = self.subscriber.subscribe(subscription, callback)
        try:
            yield stream
        finally:
            stream.cancel()
            stream.exception(timeout=PATIENCE)

    @contextmanager
    def open_stream(
        self, subscription: str, **opening: Any
    ) -> Iterator[tuple[Callable[..., None], Iterator[StreamingPullResponse]]]:
        """A bare StreamingPull: a function that sends a request, and the responses."""
        requests: SimpleQueue[StreamingPullRequest | None] = SimpleQueue()

        def send(**request: Any) -> None:
            requests.put(StreamingPullRequest(**request))

        send(**({"subscription": subscription, "stream_ack_deadline_seconds": 60} | opening))
        sent: Callable[[], StreamingPullRequest | None] = requests.get
        call: Any = PlainSubscriberClient.streaming_pull(
            self.subscriber, requests=iter(sent, None), timeout=PATIENCE
        )
        try:
            yield send, iter(call)
        finally:
            requests.put(None)
            call.cancel()


@dataclass(frozen=True)
class PushRequest:
    """A received request: number (from 1), path, headers with lower-case names, JSON body."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


class PushEndpoint:
    """An HTTP server on a free port; `answer` gives the status for every push."""

    def __init__(self, answer: Callable[[PushRequest], int]) -> None:
        self._answer = answer
        self._requests: SimpleQueue[PushRequest] = SimpleQueue()
        self._numbers = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True

    @property
    def url(self) -> str:
        """The URL for pushes."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/push?token=t"

    def take(self, count: int = 1) -> list[PushRequest]:
        """The next `count` requests, in the order of the answers; fails if a request does not come in time."""
        return [self._requests.get(timeout=PATIENCE) for _ in range(count)]

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def handle(self, path: str, headers: dict[str, str], body: bytes) -> int:
        """Answer and record a request."""
        request = PushRequest(next(self._numbers), path, headers, json.loads(body))
        status = self._answer(request)
        self._requests.put(request)
        return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers["content-length"]))
                status = endpoint.handle(self.path, headers, body)
                self.send_response(status)
                if status >= 200 and status != 204:
                    self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler
