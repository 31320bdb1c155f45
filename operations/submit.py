"""Submissions: an image is uploaded, or an object of the bucket is captioned again with another task.

An upload is served as any dropped object: its event makes the row. A request for an object that exists makes the
row of its task first, then the message, then wakes the worker pool, as a redrive does.
"""

import hashlib
import io
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from db import object_rows, submissions
from db.session import Database
from db.start_check import SUBMITTER
from db.submissions import RequestedRow
from dropline import caption_id
from dropline.contract import ObjectFacts, ObjectVersion, Status, TaskRequest, parse_uri
from dropline.deadline import Deadline
from dropline.errors import ForeignBucket, ImageRefused, InvalidTask, ObjectFiltered, ObjectMissing
from dropline.fetch import fetch
from dropline.selection import Accept, Filtered, Reject, Selection
from dropline.settings import Settings, require
from dropline.storage.bucket import NewObject, Storage, StoredObject
from operations.due_work import open_operator
from operations.keyed import KeyedRequest, digest_of_address, md5_of
from operations.stated_file import clean_name, image_type, size_of
from operations.store import Store, UploadSession


@dataclass(frozen=True, slots=True)
class Submitted:
    """A row to wait for; it is made by the event of the upload, or exists already."""

    version: ObjectVersion
    task: TaskRequest
    status: Status

    @property
    def id(self) -> str:
        """The public id of the caption, which exists before the row."""
        return caption_id.encode(self.version, self.task)


@dataclass(frozen=True, slots=True)
class Rows:
    """The parts for rows that no event makes."""

    database: Database
    #: Enqueues a row by id; raises BrokerUnavailable.
    enqueue: Callable[[int], None]
    #: Scales the worker pool up from zero; returns when Cloud Run has accepted the call.
    wake: Callable[[], None]


class Submissions:
    """Hands images to Dropline. Threads may share the object."""

    def __init__(self, store: Store, settings: Settings, rows: Rows | None) -> None:
        """Store the parts.

        Args:
            store: of the uploads, and of the objects asked about.
            settings: with the bucket of the uploads, and the rules of the function.
            rows: None if only `upload` without a key is called.

        Raises:
            SettingsError: a glob of the rules cannot be read.
        """
        self._store = store
        self._bucket = settings.bucket
        self._prefix = settings.submit.prefix
        self._fetching = settings.fetch
        self._rows = rows
        self._buckets = settings.events.buckets or (settings.bucket,)
        self._selection = Selection(settings.events.model_copy(update={"buckets": self._buckets}))

    def upload(
        self,
        data: bytes | BinaryIO,
        *,
        name: str = "",
        content_type: str | None = None,
        task: TaskRequest | None = None,
        key: str | None = None,
        deadline: Deadline,
    ) -> Submitted:
        """Upload an image; the event of the object makes its row.

        Args:
            data: bytes, or a seekable file at its beginning.
            name: of the file, without a meaning for the identity; untrusted.
            content_type: of the sender; one that is not an image's is replaced.
            task: None: the task of the rules.
            key: names the object (an `Idempotency-Key`): the same upload again returns the first object.
            deadline: of the upload with its repetitions.

        Raises:
            SettingsError: no bucket is set.
            ForeignBucket: the bucket is not one of the function's.
            ImageRefused: the image is empty or too large.
            ObjectFiltered: a rule filters every name that the object could get.
            KeyReused: the key was used with another image, address or task.
            ObjectMissing, AccessDenied, StorageUnavailable.
            DatabaseUnavailable: with a key whose object exists.
        """
        content = io.BytesIO(data) if isinstance(data, bytes) else data
        size = size_of(content)
        kind = image_type(content_type, name)
        return self._upload(NewObject(content, size, kind, task), name, key, deadline)

    def upload_from(
        self, address: str, *, task: TaskRequest | None = None, key: str | None = None, upload_s: float
    ) -> Submitted:
        """Fetch the image behind an http or https address, and upload it.

        With a key whose object exists already, nothing is fetched.

        Args:
            address: untrusted; see `dropline.fetch.fetch`.
            task: as of `upload`.
            key: as of `upload`.
            upload_s: the longest time of the upload after the fetch, in seconds.

        Raises:
            AddressRefused, FetchTooLarge, FetchTimeout, FetchFailed: the address gave no image.
            The errors of `upload`.
        """
        digest = None if key is None else digest_of_address(address)
        if key is not None and (found := self._find_keyed(key)) is not None:
            return self._submitted_before(found, KeyedRequest(task, address_digest=digest))
        fetched = fetch(address, self._fetching)
        kind = image_type(fetched.content_type, fetched.name)
        new = NewObject(io.BytesIO(fetched.data), len(fetched.data), kind, task, digest)
        return self._upload(new, fetched.name, key, Deadline.after(upload_s))

    def request(self, uri: str, task: TaskRequest | None = None) -> Submitted:
        """Have an object of the bucket captioned; an existing row of the task is returned unchanged.

        Args:
            uri: `gs://bucket/name`, or with `#generation`, which must be the live one.
            task: None: the object's own task. The answer to any other task goes to Postgres alone.

        Raises:
            ClientError: not a URI.
            ForeignBucket: the bucket is not one of the function's.
            ObjectMissing: the bucket has no such object, or no longer this generation of it.
            ObjectFiltered: a rule filters the object.
            ImageRefused: the object is empty or too large.
            InvalidTask: no task is asked for, and the object's own is invalid.
            AccessDenied, StorageUnavailable, DatabaseUnavailable.
            BrokerUnavailable, ScalingDenied, TransientError: the row exists; a repetition sends its message.
        """
        bucket, name, generation = parse_uri(uri)
        self._require_ours(ObjectVersion(bucket, name, generation or 0))
        found = self._store.describe(bucket, name)
        if generation not in (None, found.version.generation):
            raise ObjectMissing(f"{uri} is not the live generation; the live one is {found.version.uri}")
        row = self._row_of(found, task)
        if not row.status.is_terminal:
            self._required_rows().enqueue(row.row_id)
            self._required_rows().wake()
        return Submitted(found.version, TaskRequest.parse(row.task), row.status)

    def open_session(
        self,
        *,
        size_bytes: int,
        name: str = "",
        content_type: str | None = None,
        task: TaskRequest | None = None,
        key: str | None = None,
    ) -> UploadSession:
        """Begin a resumable upload, with the arguments and errors of `upload`; `request` then gives the id.

        With a key whose object is there already, no upload begins.
        """
        bucket = require(self._bucket, "DROPLINE_BUCKET")
        kind = image_type(content_type, name)
        facts = ObjectFacts(kind, size_bytes)
        version, _ = self._first_accepted(bucket, self._names(name, key), facts, task)
        uri = f"gs://{bucket}/{version.name}"
        if key is not None and (found := self._find_keyed(key)) is not None:
            KeyedRequest(task, size_bytes).require_made(found)
            return UploadSession(None, uri)
        return UploadSession(self._store.open_session(bucket, version.name, kind, size_bytes, task), uri)

    def upcoming(self, version: ObjectVersion, task: TaskRequest) -> Submitted:
        """A row that the event of the object version is about to make.

        Raises:
            ObjectMissing: the object version is not live, its event makes the row of another task, or its bucket
                is not one of the function's.
            ObjectFiltered: a rule filters the object.
            ImageRefused, AccessDenied, StorageUnavailable.
        """
        try:
            self._require_ours(version)
        except ForeignBucket as error:
            raise ObjectMissing(str(error)) from None
        found = self._store.describe(version.bucket, version.name)
        if found.version.generation != version.generation:
            raise ObjectMissing(f"{version.uri} was overwritten or deleted, and has no caption")
        own = self._own_tasks(version, found.facts, found.task)
        if own is None or task not in own.tasks:
            raise ObjectMissing(f"{task} was not asked of {version.uri}: submit the object with this task")
        return Submitted(version, task, Status.QUEUED)

    def _upload(self, new: NewObject, name: str, key: str | None, deadline: Deadline) -> Submitted:
        bucket = require(self._bucket, "DROPLINE_BUCKET")
        facts = ObjectFacts(new.content_type, new.size_bytes)
        version, asked = self._first_accepted(bucket, self._names(name, key), facts, new.task)
        created = self._store.create(bucket, version.name, new, deadline)
        if created is not None:
            return Submitted(created, asked, Status.QUEUED)
        # Created before: by a request whose answer was lost, or by another request with the key.
        found = self._store.describe(bucket, version.name)
        return self._submitted_before(found, None if key is None else _keyed(new))

    def _find_keyed(self, key: str) -> StoredObject | None:
        """The object of a key; None before."""
        try:
            return self._store.describe(require(self._bucket, "DROPLINE_BUCKET"), self._names("", key)[0])
        except ObjectMissing:
            return None

    def _names(self, name: str, key: str | None) -> list[str]:
        """The names that the object may get; a name with that of the file is easier to recognize."""
        if key is not None:
            return [f"{self._prefix}{hashlib.sha256(key.encode()).hexdigest()[:32]}"]
        unique = f"{self._prefix}{uuid.uuid4().hex}"
        tail = clean_name(name)
        return [f"{unique}/{tail}", unique] if tail else [unique]

    def _first_accepted(
        self, bucket: str, names: list[str], facts: ObjectFacts, task: TaskRequest | None
    ) -> tuple[ObjectVersion, TaskRequest]:
        refusal: ObjectFiltered | None = None
        for name in names:
            version = ObjectVersion(bucket, name, 0)
            self._require_ours(version)
            try:
                own = self._own_tasks(version, facts, None if task is None else str(task))
            except ObjectFiltered as error:
                refusal = refusal or error
            else:
                assert own is not None, "the task is a parsed one"
                return version, own.tasks[0]
        assert refusal is not None
        raise refusal

    def _require_ours(self, version: ObjectVersion) -> None:
        try:
            self._selection.require_ours(version)
        except ForeignBucket:
            raise ForeignBucket(
                f"the bucket {version.bucket} is not one of DROPLINE_EVENTS__BUCKETS "
                f"({', '.join(self._buckets)}), so its objects get no caption"
            ) from None

    def _own_tasks(self, version: ObjectVersion, facts: ObjectFacts, task: str | None) -> Accept | None:
        """The tasks of the metadata or of the rules; None if those of the metadata are all invalid."""
        match self._selection.judge(version, facts, task):
            case Accept() as own:
                return own
            case Reject(_, InvalidTask.default_code):
                return None
            case Reject(_, code, error):
                raise ImageRefused(error, code=code)
            case Filtered(reason):
                raise ObjectFiltered(
                    f"gs://{version.bucket}/{version.name} is filtered and gets no caption "
                    f"({reason}: {reason.setting})"
                )

    def _submitted_before(self, found: StoredObject, keyed: KeyedRequest | None) -> Submitted:
        if keyed is not None:
            keyed.require_made(found)
        own = self._own_tasks(found.version, found.facts, found.task)
        if own is None:
            raise InvalidTask(
                f"the metadata caption-task of {found.version.uri} is {found.task!r}, which is no task"
            )
        task = own.tasks[0]
        row = None
        if keyed is not None:
            with self._required_rows().database.transaction() as connection:
                row = submissions.row_of_task(connection, found.version, str(task))
        return Submitted(found.version, task, Status.QUEUED if row is None else row.status)

    def _row_of(self, found: StoredObject, task: TaskRequest | None) -> RequestedRow:
        own = self._own_tasks(found.version, found.facts, found.task)
        with self._required_rows().database.transaction() as connection:
            if task is None and (row := submissions.own_row(connection, found.version)):
                return row
            if task is None and own is not None:
                # As its event does: all its tasks, and the first one is the answer.
                object_rows.register_tasks(connection, found.version, found.facts, own)
            asked = task or (own.tasks[0] if own else None)
            if asked is None:
                raise InvalidTask(
                    f"the metadata caption-task of {found.version.uri} is {found.task!r}, which is no task: name "
                    "another task, or correct the metadata and upload the object again"
                )
            is_own = own is not None and asked == own.tasks[0]
            return submissions.request_row(connection, found.version, found.facts, asked, own_task=is_own)

    def _required_rows(self) -> Rows:
        assert self._rows is not None, "these submissions only upload"
        return self._rows


def _keyed(new: NewObject) -> KeyedRequest:
    if new.address_digest is not None:
        # The server may have another image there meanwhile.
        return KeyedRequest(new.task, address_digest=new.address_digest)
    return KeyedRequest(new.task, new.size_bytes, md5_of(new.content))


@contextmanager
def open_submissions(
    settings: Settings, on_wait: Callable[[str], None], *, uploads_only: bool = False
) -> Iterator[Submissions]:
    """Submissions of a command; the connections are opened on first use.

    Args:
        settings: with Cloud Storage and, for requests, Postgres, Redis and the worker pool.
        on_wait: called before each pause of a call to wake the worker pool, with the reason.
        uploads_only: no Postgres and no Redis; `request` and keys are then not possible.

    Raises:
        SettingsError: a setting is missing or wrong.
        AccessDenied: no credentials were found.
    """
    store = Storage.connect(settings)
    if uploads_only:
        yield Submissions(store, settings, None)
        return
    with open_operator(
        settings, "dropline-submit", on_wait, needs=SUBMITTER, connections=None, statement_timeout_ms=0
    ) as operator:
        yield Submissions(store, settings, Rows(operator.database, operator.enqueue, operator.wake))
