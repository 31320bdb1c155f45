"""Redis in memory: kombu's memory transport, with the other Redis commands of a worker over the same queues."""

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from celery import Celery
from kombu.message import Message
from kombu.transport import memory
from pydantic import SecretStr

from dropline.broker.transport import _most_messages
from dropline.contract import CAPTION_QUEUE
from dropline.settings import BrokerSettings, Settings
from worker.celery_app import make_celery


class MemoryBroker:
    """The broker of a test: queues, overdue messages and planned errors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        #: Messages that dead workers took longer ago than the visibility timeout.
        self.overdue: list[dict[str, Any]] = []
        #: The most messages that the queue may have, for each message sent.
        self.limits: list[int] = []
        self._queues: dict[str, Any] = {}
        self._error: Exception | None = None
        put = memory.Channel._put
        monkeypatch.setattr(memory.Channel, "queues", self._queues)
        monkeypatch.setattr(memory.Channel, "client", self, raising=False)
        monkeypatch.setattr(memory.Channel, "_put", self._or_error(self._noting_the_limit(put)))
        monkeypatch.setattr(memory.Channel.QoS, "restore_visible", self._or_error(self._restore_visible))

    def app(self) -> Celery:
        """The worker's Celery app, connected to the broker."""
        app = make_celery(Settings(broker=BrokerSettings(url=SecretStr("redis://replaced"))))
        app.conf.update(broker_url="memory://", broker_read_url="memory://", broker_write_url="memory://")
        return app

    def fail(self, error: Exception | None) -> None:
        """Answer every message and every command with `error` from now on; None: as usual again."""
        self._error = error

    def sent(self, queue: str) -> list[dict[str, Any]]:
        """Headers and `args` of the messages on the queue, oldest first."""
        return [each["headers"] | {"args": _args_of(each)} for each in self._on(queue)]

    def put(self, message: object) -> None:
        """Put anything on the queue of captions."""
        with self.app().connection_for_write() as connection:
            connection.default_channel._put(CAPTION_QUEUE, message)

    def lose_to_a_dead_worker(self) -> None:
        """Take every message off the queue of captions, for longer than the visibility timeout."""
        self.overdue += self._on(CAPTION_QUEUE)
        del self._queues[CAPTION_QUEUE]

    def take(self, app: Celery) -> Message:
        """The oldest message on the queue of captions, as a worker gets it."""
        with app.connection_for_write() as connection:
            return connection.default_channel.basic_get(CAPTION_QUEUE)

    def llen(self, queue: str) -> int:
        """Redis's LLEN."""
        self._check()
        return len(self._on(queue))

    def client_list(self) -> list[dict[str, str]]:
        """Redis's CLIENT LIST: no connection is known."""
        self._check()
        return []

    def _restore_visible(self, _qos: object, start: int = 0, num: int | None = 10, interval: int = 10) -> None:
        count = len(self.overdue) if num is None else num
        for message in self.overdue[:count]:
            self.put(message)
        del self.overdue[:count]

    def _on(self, queue: str) -> list[Any]:
        return list(self._queues[queue].queue) if queue in self._queues else []

    def _noting_the_limit(self, put: Callable[..., None]) -> Callable[..., None]:
        def put_and_noted(*args: Any, **options: Any) -> None:
            put(*args, **options)
            self.limits.append(_most_messages.get())

        return put_and_noted

    def _or_error(self, act: Callable[..., None]) -> Callable[..., None]:
        def checked(*args: Any, **options: Any) -> None:
            self._check()
            act(*args, **options)

        return checked

    def _check(self) -> None:
        if self._error is not None:
            raise self._error


def _args_of(message: dict[str, Any]) -> list[Any]:
    args: list[Any] = json.loads(base64.b64decode(message["body"]))[0]
    return args
