"""Selection of the objects to caption, and of their tasks. Pure: settings and an object in, a verdict out."""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dropline.contract import (
    METADATA_MODEL,
    METADATA_PROMPT,
    METADATA_TASK,
    FilterReason,
    ObjectFacts,
    ObjectVersion,
    TaskPrompt,
    TaskRequest,
)
from dropline.errors import ForeignBucket, InvalidTask, SettingsError
from dropline.settings import EventSettings
from dropline.task_list import parse_tasks, read_tasks


@dataclass(frozen=True, slots=True)
class Skip:
    """The event is of another type than a new or deleted object; no rule of the settings decides."""

    reason: str


@dataclass(frozen=True, slots=True)
class Filtered:
    """A rule filters the object: the object gets no row, and its event is counted."""

    reason: FilterReason


@dataclass(frozen=True, slots=True)
class Accept:
    """The object will be captioned."""

    #: Each becomes a row; the caption of the first is written to the object's metadata.
    tasks: tuple[TaskRequest, ...]
    #: The wrong entries of the object's own list of tasks, as a `failed` row.
    wrong: "Reject | None" = None


@dataclass(frozen=True, slots=True)
class Reject:
    """The object is refused without a look at the bytes: its row starts as `failed`."""

    #: The task of the `failed` row.
    task: TaskRequest
    code: str
    error: str


Verdict = Accept | Reject | Filtered


class Selection:
    """Filters and task choice of the settings, compiled once.

    Raises:
        SettingsError: a glob cannot be read.
    """

    def __init__(self, settings: EventSettings) -> None:
        self._buckets = frozenset(settings.buckets)
        self._include = Globs(settings.include)
        self._exclude = Globs(settings.exclude)
        self._auxiliary = Globs(settings.auxiliary)
        self._content_types = Globs(kind.lower() for kind in settings.content_types)
        self._max_size = settings.max_size_bytes
        self._default = parse_tasks(settings.default_task)
        self._by_prefix = sorted(
            ((prefix, parse_tasks(tasks)) for prefix, tasks in settings.task_by_prefix.items()),
            key=lambda item: len(item[0]),
            reverse=True,
        )

    def require_ours(self, version: ObjectVersion) -> None:
        """Refuse an object of a bucket that is not configured; an empty list of buckets refuses every object.

        Raises:
            ForeignBucket: the bucket is not in the list.
        """
        if version.bucket not in self._buckets:
            raise ForeignBucket(
                f"bucket {version.bucket} is not ours: add it to DROPLINE_EVENTS__BUCKETS, or take the "
                "subscription off its notifications"
            )

    def judge(self, version: ObjectVersion, facts: ObjectFacts, task: str | None) -> Verdict:
        """The verdict on a finalized object of a configured bucket.

        Args:
            version: the object version.
            facts: from the event; an unknown fact never rejects an object.
            task: the object's own metadata `caption-task`; None without one.
        """
        usual = self.usual_tasks(version.name)
        return self.filtered(version, facts) or self._impossible(facts, usual[0]) or _requested(task, usual)

    def filtered(self, version: ObjectVersion, facts: ObjectFacts) -> Filtered | None:
        """The first rule that filters the object; None where all rules admit the object."""
        return next(map(Filtered, self._applicable(version.name, facts)), None)

    def _applicable(self, name: str, facts: ObjectFacts) -> Iterator[FilterReason]:
        if not self._include.match(name):
            yield FilterReason.NOT_INCLUDED
        if self._exclude.match(name):
            yield FilterReason.EXCLUDED
        if self._auxiliary.match(name):
            yield FilterReason.AUXILIARY
        if _is_folder(name, facts):
            yield FilterReason.FOLDER_PLACEHOLDER
        if not self._may_be_image(facts):
            yield FilterReason.CONTENT_TYPE

    def _may_be_image(self, facts: ObjectFacts) -> bool:
        """A notification without payload has no content type; the bytes decide later."""
        return facts.content_type is None or self._content_types.match(media_type(facts.content_type))

    def _impossible(self, facts: ObjectFacts, usual: TaskRequest) -> Reject | None:
        size = facts.size_bytes
        if size == 0:
            return Reject(usual, "empty_object", "there are no bytes; upload the image again")
        if size is not None and size > self._max_size:
            limit = f"the limit of {self._max_size} (DROPLINE_EVENTS__MAX_SIZE_BYTES)"
            return Reject(usual, "object_too_large", f"the object has {size} bytes, above {limit}")
        return None

    def usual_tasks(self, name: str) -> tuple[TaskRequest, ...]:
        """The tasks of the longest matching prefix, else the default ones; at least one."""
        return next((tasks for prefix, tasks in self._by_prefix if name.startswith(prefix)), self._default)


def _requested(task: str | None, usual: tuple[TaskRequest, ...]) -> Accept | Reject:
    """The object's own tasks, else the usual ones.

    Invalid tasks make a `failed` row; another task never replaces them silently, and the right ones are accepted.
    """
    if task is None:
        return Accept(usual)
    found = read_tasks(task)
    if not found.errors:
        return Accept(found.tasks)
    message = f"metadata caption-task: {'; '.join(found.errors)}; correct it and upload the object again"
    wrong = Reject(_stand_in(usual, found.tasks), InvalidTask.default_code, message)
    return Accept(found.tasks, wrong) if found.tasks else wrong


def _stand_in(usual: tuple[TaskRequest, ...], asked: tuple[TaskRequest, ...]) -> TaskRequest:
    """The task of a `failed` row for invalid tasks: a usual one, else any, without a row of its own."""
    plain = [TaskRequest(prompt) for prompt in TaskPrompt if not (prompt.takes_text or prompt.takes_region)]
    # A list may ask for each plain task; tasks with words are as many as there are words.
    with_words = [
        TaskRequest(TaskPrompt.CAPTION_TO_PHRASE_GROUNDING, word) for word in ("wrong task", "wrong entry")
    ]
    return next(task for task in (*usual, *plain, *with_words) if task not in asked)


def task_of_metadata(metadata: Mapping[str, Any]) -> str | None:
    """The unparsed `caption-task` that a person has set in an object's metadata; None without one."""
    task = None if _is_copy_of_an_old_caption(metadata) else metadata.get(METADATA_TASK)
    return task if isinstance(task, str) and task.strip() else None


def _is_copy_of_an_old_caption(metadata: Mapping[str, Any]) -> bool:
    """True for a copy of an object captioned before `caption-prompt` existed: then the task key was Dropline's."""
    return METADATA_MODEL in metadata and METADATA_PROMPT not in metadata


#: RFC 9110: a token, a slash and a token. Literal asterisks are tokens.
_MEDIA_TYPE = re.compile(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+")


def media_type(content_type: str) -> str:
    """`type/subtype` in lower case without parameters; empty for a text that is none, such as `jpg` or `null`."""
    found = content_type.partition(";")[0].strip().lower()
    return found if _MEDIA_TYPE.fullmatch(found) else ""


#: Types by which file systems over object storage mark a folder.
_FOLDER_TYPES = frozenset(
    {"application/x-directory", "application/directory", "httpd/unix-directory", "inode/directory"}
)


def _is_folder(name: str, facts: ObjectFacts) -> bool:
    """An object without bytes whose name ends with a slash, or whose type is that of a folder."""
    return facts.size_bytes == 0 and (name.endswith("/") or media_type(facts.content_type or "") in _FOLDER_TYPES)


_ANY_DEPTH = None
_Part = re.Pattern[str] | None


class Globs:
    """A set of globs, compiled once.

    A glob is cut at its slashes. `**`, alone between slashes, matches any number of levels, including zero; every
    other part is a pattern of `fnmatch` (`*`, `?`, `[a-z]`, `[!a-z]`) for exactly one level. Matching is
    case-sensitive.

    Names are untrusted, so matching backtracks to the last `**` only: the work is bounded by the length of the
    name times the number of parts of the glob.

    Raises:
        SettingsError: a part contains `**` beside other characters.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        self._globs = [[_part(part, glob) for part in glob.split("/")] for glob in globs]

    def match(self, name: str) -> bool:
        """Whether a glob matches the whole name."""
        levels = name.split("/")
        return any(_matches(glob, levels) for glob in self._globs)


def _part(part: str, glob: str) -> _Part:
    if part == "**":
        return _ANY_DEPTH
    if "**" in part:
        raise SettingsError(
            f"the glob {glob!r} has a ** that is not alone between slashes; write **/*.jpg, not **.jpg"
        )
    return re.compile(fnmatch.translate(part))


def _matches(glob: Sequence[_Part], levels: Sequence[str]) -> bool:
    """Greedy matching: the levels matched by an earlier `**` never have to be reconsidered."""
    part = level = 0
    retry: tuple[int, int] | None = None
    while level < len(levels):
        if part < len(glob) and glob[part] is _ANY_DEPTH:
            part += 1
            retry = (part, level)
        elif part < len(glob) and _fits(glob[part], levels[level]):
            part, level = part + 1, level + 1
        elif retry is not None:
            part, level = retry[0], retry[1] + 1
            retry = (part, level)
        else:
            return False
    return all(rest is _ANY_DEPTH for rest in glob[part:])


def _fits(part: _Part, level: str) -> bool:
    return part is not None and part.match(level) is not None
