"""The function in front of a real Postgres and a real Redis, and the content of both."""

import base64
import json
from contextlib import AbstractContextManager
from typing import Any

from pydantic import SecretStr

from dropline.contract import CAPTION_QUEUE
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, RetentionSettings, Settings
from tests.support.deliveries import BUCKET
from trigger_fn import service
from trigger_fn.endpoint import Endpoint

_EVENTS = EventSettings(buckets=(BUCKET,), max_size_bytes=1_000_000)


def opened(
    database_url: str,
    redis_url: str,
    events: EventSettings = _EVENTS,
    retention: RetentionSettings = RetentionSettings(),  # noqa: B008 - immutable
) -> AbstractContextManager[Endpoint]:
    """The function's endpoint for a bucket and the given servers."""
    return service.open_endpoint(
        Settings(
            database=DatabaseSettings(url=SecretStr(database_url)),
            broker=BrokerSettings(url=SecretStr(redis_url)),
            events=events,
            retention=retention,
        )
    )


class Queue:
    """The queue in Redis."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def messages(self) -> list[dict[str, Any]]:
        """The messages, oldest first."""
        return [json.loads(message) for message in reversed(self.client.lrange(CAPTION_QUEUE, 0, -1))]

    def row_ids(self) -> list[int]:
        """The row id of each message."""
        return [json.loads(base64.b64decode(message["body"]))[0][0] for message in self.messages()]


def statuses(rows: list[dict[str, Any]]) -> dict[int, str]:
    return {row["generation"]: row["status"] for row in rows}
