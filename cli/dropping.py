"""Uploads, and the wait for what becomes of them: what `drop` and `demo` share."""

from dataclasses import dataclass, field
from typing import Protocol

from cli.waiting import Waiter
from db.reads import CaptionRecord
from dropline.contract import ObjectVersion, TaskRequest
from dropline.storage.bucket import Storage
from dropline.storage.uploads import Plan, Upload, Uploaded, upload_all


class Audience(Protocol):
    """Who is told while it happens."""

    def uploaded(self, uploaded: Uploaded) -> None:
        """A file has become an object."""

    def ended(self, version: ObjectVersion, rows: list[CaptionRecord]) -> None:
        """All rows of an uploaded object have ended."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where files go, and what is asked for them."""

    storage: Storage
    bucket: str
    task: TaskRequest | None = None
    #: Uploads at a time.
    parallel: int = 8

    def upload(self, upload: Upload) -> Uploaded:
        """Upload one file; raises as `Storage.upload` does."""
        return self.storage.upload(self.bucket, upload, self.task)


@dataclass(slots=True)
class Dropped:
    """What became of a plan."""

    uploaded: list[Uploaded]
    #: Files that could not be read, and why.
    unreadable: list[tuple[Upload, str]]
    #: Rows of objects that ended.
    rows: list[CaptionRecord] = field(default_factory=list)
    #: Objects that had not ended when the time was over.
    missing: dict[ObjectVersion, list[CaptionRecord]] = field(default_factory=dict)


def drop_files(
    plan: Plan, target: Target, audience: Audience, *, waiter: Waiter | None = None, timeout_s: float = 0
) -> Dropped:
    """Upload the files and, with a waiter that listens already, wait for all that went up.

    Raises:
        ClientError, AccessDenied, StorageUnavailable, DatabaseUnavailable.
    """
    uploaded, unreadable = upload_all(plan, target.upload, target.parallel, audience.uploaded)
    dropped = Dropped(uploaded, unreadable)
    if waiter is None:
        return dropped

    def on_end(version: ObjectVersion, rows: list[CaptionRecord]) -> None:
        dropped.rows.extend(rows)
        audience.ended(version, rows)

    dropped.missing = waiter.wait([each.version for each in uploaded], timeout_s, on_end)
    return dropped
