"""A list of tasks in one text, as in the metadata `caption-task` and in the settings: `<CAPTION>, <OD>`.

    list   = entry { "," entry }
    entry  = a task as `TaskRequest.parse` reads it

A comma ends an entry, with one exception: the words of a task may contain commas. So behind a task that takes
words, only a comma before a task in angle brackets ends the entry: `<OPEN_VOCABULARY_DETECTION>a car, a cat, <OD>`
has two tasks, and `open_vocabulary_detection: a car, od` has one. Words cannot contain angle brackets.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dropline.contract import TaskPrompt, TaskRequest
from dropline.errors import InvalidTask

#: Most tasks of one object: as many share a download, a decoding and a request to the engine.
MAX_TASKS = 8

_NAME = re.compile(r"\s*(?:<([A-Za-z_]+)>|([A-Za-z_-]+)\s*:)")
_ANY_END = re.compile(r",")
_END_OF_WORDS = re.compile(r",(?=\s*<[A-Za-z_]+>)")


@dataclass(frozen=True, slots=True)
class TaskList:
    """The tasks of a text, and what is wrong with its other entries."""

    #: Each once, in the order of the text.
    tasks: tuple[TaskRequest, ...]
    #: One sentence for each wrong entry.
    errors: tuple[str, ...] = ()


def read_tasks(value: str) -> TaskList:
    """The right entries and the errors of the wrong ones; at least one of the two is not empty."""
    tasks: dict[TaskRequest, None] = {}
    errors: list[str] = []
    for entry in _entries(value):
        try:
            tasks[TaskRequest.parse(entry)] = None
        except InvalidTask as error:
            errors.append(str(error))
    found = tuple(tasks)
    if len(found) > MAX_TASKS:
        errors.append(f"an object has at most {MAX_TASKS} tasks, so {written(found[MAX_TASKS:])} is left out")
    return TaskList(found[:MAX_TASKS], tuple(errors))


def parse_tasks(value: str) -> tuple[TaskRequest, ...]:
    """The tasks of a text whose entries are all right.

    Raises:
        InvalidTask: an entry is wrong, or there are more than `MAX_TASKS`.
    """
    found = read_tasks(value)
    if found.errors:
        raise InvalidTask("; ".join(found.errors))
    return found.tasks


def written(tasks: Sequence[TaskRequest]) -> str:
    """The canonical text of a list, which `parse_tasks` reads."""
    return ", ".join(map(str, tasks))


def _entries(value: str) -> Iterator[str]:
    start = 0
    while True:
        name = _NAME.match(value, start)
        prompt = TaskPrompt.named(name[1] or name[2]) if name else None
        takes_words = prompt is not None and prompt.takes_text
        end = (_END_OF_WORDS if takes_words else _ANY_END).search(value, start)
        if end is None:
            yield value[start:]
            return
        yield value[start : end.start()]
        start = end.end()
