"""A look at the queue after a silent reconnection of the consumer."""

from collections.abc import Callable
from typing import Any

from worker.steps import call_after_disconnect


class Channel:
    """kombu's channel, with the method that kombu calls for each lost connection."""

    def __init__(self) -> None:
        self.lost: list[object] = []
        self._on_connection_disconnect: Callable[[Any], None] = self.lost.append


def test_each_lost_connection_is_handled_by_kombu_first_and_then_reported() -> None:
    """kombu forgets the connection before the callback; a second loss calls back again."""
    channel = Channel()
    seen: list[list[object]] = []
    call_after_disconnect(channel, lambda: seen.append(list(channel.lost)))
    channel._on_connection_disconnect("first")
    channel._on_connection_disconnect("second")
    assert seen == [["first"], ["first", "second"]]
