"""Which objects are captioned, and with which task. Pure: settings and an event in, a verdict out."""

from dataclasses import dataclass

from dropline.contract import ObjectFacts, TaskRequest
from dropline.errors import InvalidTask
from dropline.settings import EventSettings
from trigger_fn.errors import ForeignBucket
from trigger_fn.events import ObjectEvent, Skip
from trigger_fn.globs import Globs


@dataclass(frozen=True, slots=True)
class Accept:
    """The object is to be captioned."""

    task: TaskRequest


@dataclass(frozen=True, slots=True)
class Reject:
    """The object can be refused without looking at its bytes: its row is `failed` from the start."""

    #: The task it would have had.
    task: TaskRequest
    code: str
    error: str


Verdict = Accept | Reject | Skip


class Selection:
    """The settings' filters and task choice, compiled once.

    Raises:
        SettingsError: a glob cannot be read.
    """

    def __init__(self, settings: EventSettings) -> None:
        self._buckets = frozenset(settings.buckets)
        self._include = Globs(settings.include)
        self._exclude = Globs(settings.exclude)
        self._content_types = Globs(kind.lower() for kind in settings.content_types)
        self._max_size = settings.max_size_bytes
        self._default = TaskRequest.parse(settings.default_task)
        self._by_prefix = sorted(
            ((prefix, TaskRequest.parse(task)) for prefix, task in settings.task_by_prefix.items()),
            key=lambda item: len(item[0]),
            reverse=True,
        )

    def require_ours(self, event: ObjectEvent) -> None:
        """Raises ForeignBucket where the event's bucket is not in the list; an empty list holds none."""
        if event.version.bucket not in self._buckets:
            raise ForeignBucket(
                f"bucket {event.version.bucket} is not ours: add it to DROPLINE_EVENTS__BUCKETS, or take the "
                "subscription off its notifications"
            )

    def judge(self, event: ObjectEvent) -> Verdict:
        """What is to be done about an object of ours that has come to be."""
        return self.filtered(event) or self._impossible(event) or self._with_task(event)

    def filtered(self, event: ObjectEvent) -> Skip | None:
        """The filter that leaves this object alone, if there is one."""
        name = event.version.name
        if not self._include.match(name):
            return Skip("not_included")
        if self._exclude.match(name):
            return Skip("excluded")
        if name.endswith("/") and event.facts.size_bytes == 0:
            return Skip("folder_placeholder")
        return None if self._may_be_image(event.facts) else Skip("content_type")

    def _may_be_image(self, facts: ObjectFacts) -> bool:
        """A notification without payload says nothing of the type; then the bytes decide."""
        if facts.content_type is None:
            return True
        return self._content_types.match(facts.content_type.partition(";")[0].strip().lower())

    def _impossible(self, event: ObjectEvent) -> Reject | None:
        size = event.facts.size_bytes
        if size == 0:
            return Reject(self._usual_task(event), "empty_object", "the object has no bytes; upload it again")
        if size is not None and size > self._max_size:
            limit = f"the limit of {self._max_size} (DROPLINE_EVENTS__MAX_SIZE_BYTES)"
            return Reject(
                self._usual_task(event), "object_too_large", f"the object has {size} bytes, above {limit}"
            )
        return None

    def _with_task(self, event: ObjectEvent) -> Accept | Reject:
        """The object's own metadata, else the longest prefix, else the default.

        A wish that cannot be met is a `failed` row and never quietly replaced by another task.
        """
        if event.task is None:
            return Accept(self._usual_task(event))
        try:
            return Accept(TaskRequest.parse(event.task))
        except InvalidTask as error:
            message = f"metadata caption-task: {error}; correct it and upload the object again"
            return Reject(self._usual_task(event), error.code, message)

    def _usual_task(self, event: ObjectEvent) -> TaskRequest:
        name = event.version.name
        return next((task for prefix, task in self._by_prefix if name.startswith(prefix)), self._default)
