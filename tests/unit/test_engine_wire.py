"""The messages between a child and the engine."""

import numpy as np

from dropline.contract import Dimensions, TaskPrompt, TaskRequest
from worker.engine import wire
from worker.engine.wire import CaptionRequest


def test_a_request_arrives_as_it_was_sent() -> None:
    """Tasks, size, isolation and priority; the pixels are in the slot."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    tasks = [TaskRequest(TaskPrompt.CAPTION), TaskRequest(TaskPrompt.OD)]
    for isolated, priority in ((False, 0), (True, 2)):
        sent = [CaptionRequest(pixels, task, Dimensions(64, 48), isolated, priority) for task in tasks]
        message = wire.from_child(wire.Request.of(7, sent).encode())
        assert isinstance(message, wire.Request)
        assert [
            (each.task, each.original, each.isolated, each.priority) for each in message.with_pixels(pixels)
        ] == [(task, Dimensions(64, 48), isolated, priority) for task in tasks]


def test_a_request_has_the_most_urgent_priority_of_its_tasks() -> None:
    """A bulk task in front does not make a fresh one wait."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    task, size = TaskRequest(TaskPrompt.CAPTION), Dimensions(64, 48)
    requests = [CaptionRequest(pixels, task, size, priority=priority) for priority in (2, 0, 1)]
    assert wire.Request.of(7, requests).priority == 0
