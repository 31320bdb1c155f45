"""The request of a backfill, and the row of each object by the rules of events. Pure."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db.bulk_rows import BulkRow
from dropline.contract import ObjectVersion, TaskRequest
from dropline.errors import ClientError, ForeignBucket, InvalidTask
from dropline.selection import Accept, Filtered, Reject, Selection
from dropline.settings import Settings
from dropline.storage.listing import ListedObject
from dropline.storage.name_globs import compile_glob, is_glob, literal_prefix, matches

_SOURCE = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]+)(?:/(?P<pattern>.*))?", re.DOTALL)
#: Neither Postgres nor Cloud Storage can have these in a name.
_UNUSABLE = re.compile("[\x00\ud800-\udfff]")
#: Classes with a retrieval fee for reads.
ARCHIVED_CLASSES = frozenset({"NEARLINE", "COLDLINE", "ARCHIVE"})


@dataclass(frozen=True, slots=True)
class Source:
    """A bucket, and some of its objects."""

    bucket: str
    #: A prefix, or a glob for whole names.
    pattern: str = ""

    @classmethod
    def parse(cls, uri: str) -> "Source":
        """Read `gs://bucket`, `gs://bucket/prefix` or `gs://bucket/glob`.

        Raises:
            ClientError: another form, or an unreadable glob.
        """
        match = None if _UNUSABLE.search(uri) else _SOURCE.fullmatch(uri)
        if match is None:
            raise ClientError(
                f"{uri!r} names no bucket; write gs://BUCKET, gs://BUCKET/PREFIX or a glob as 'gs://BUCKET/**.jpg'"
            )
        source = cls(match["bucket"], match["pattern"] or "")
        compile_glob(source.pattern)
        return source

    @property
    def prefix(self) -> str:
        """The beginning of all names."""
        return literal_prefix(self.pattern)

    @property
    def uri(self) -> str:
        """In a single spelling."""
        return f"gs://{self.bucket}/{self.pattern}"

    def matches(self, name: str) -> bool:
        """Whether an object of the bucket belongs to the source."""
        if is_glob(self.pattern):
            return matches(self.pattern, name)
        return name.startswith(self.pattern)


def selection_of(settings: Settings) -> Selection:
    """The rules of events; without a list of buckets, for the bucket of the settings.

    Raises:
        SettingsError: a glob of the rules cannot be read.
    """
    buckets = settings.events.buckets or (settings.bucket,)
    return Selection(settings.events.model_copy(update={"buckets": buckets}))


def require_ours(selection: Selection, bucket: str) -> None:
    """Refuse a bucket of objects without captions.

    Raises:
        ForeignBucket: the bucket is not one of DROPLINE_EVENTS__BUCKETS.
    """
    try:
        selection.require_ours(ObjectVersion(bucket, "", 0))
    except ForeignBucket:
        raise ForeignBucket(
            f"the bucket {bucket} is not one of DROPLINE_EVENTS__BUCKETS, so its objects get no caption; add it "
            "there, for the function too"
        ) from None


@dataclass(frozen=True, slots=True)
class BackfillRequest:
    """The objects of a backfill, and the limits."""

    source: Source
    #: Asked of each object, in place of its own task; None: the own task.
    task: TaskRequest | None = None
    #: Also objects of classes with a retrieval fee.
    archived: bool = False
    #: As written; `since` is the time as of the first run.
    since_text: str = ""
    since: datetime | None = None
    #: Most rows.
    most: int | None = None
    #: Most rows per second.
    rate: float | None = None
    #: SHA-256 of a list of names; None: the bucket is listed.
    list_digest: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """All options for the choice of objects and rows, beside the source."""
        return {
            "task": None if self.task is None else str(self.task),
            "archived": self.archived,
            "since": self.since_text or None,
            "list": self.list_digest,
        }


class Chooser:
    """The row of an object, or the reason to leave the object out."""

    def __init__(self, selection: Selection, request: BackfillRequest, since: datetime | None) -> None:
        self._selection = selection
        self._request = request
        self._since = since

    def choose(self, found: ListedObject) -> list[BulkRow] | str:
        """The rows of a live object, one for each task.

        The reasons are `other_name`, `archived`, `old` and the values of `FilterReason`.
        """
        version, request = found.version, self._request
        # Postgres stores no NUL.
        if "\x00" in version.name or not request.source.matches(version.name):
            return "other_name"
        if self._since is not None and found.created_at is not None and found.created_at < self._since:
            return "old"
        if found.storage_class in ARCHIVED_CLASSES and not request.archived:
            return "archived"
        verdict = self._selection.judge(version, found.facts, found.task)
        match verdict:
            case Filtered(reason):
                return reason.value
            case Accept() as accepted:
                return self._rows(found, accepted)
            case Reject(_, InvalidTask.default_code) if request.task is not None:
                return [BulkRow(version, found.facts, str(request.task), own_task=False)]
            case Reject(usual, code, error):
                return [BulkRow(version, found.facts, str(request.task or usual), code, error)]

    def _rows(self, found: ListedObject, accepted: Accept) -> list[BulkRow]:
        asked, own, wrong = self._request.task, accepted.tasks, accepted.wrong
        tasks = own if asked is None else (asked,)
        rows = [BulkRow(found.version, found.facts, str(task), own_task=task == own[0]) for task in tasks]
        if wrong is not None and asked is None:
            failed = str(wrong.task), wrong.code, wrong.error
            rows.append(BulkRow(found.version, found.facts, *failed, own_task=False))
        return rows
