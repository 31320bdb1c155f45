"""All errors of Dropline.

    DroplineError
    ├── SettingsError            a setting is missing or wrong; names the variable
    ├── LocalStackError          a service of the local stack cannot start, or died
    ├── ClientError              a command cannot be carried out as given
    │   ├── ObjectMissing        an object, or a bucket, is not there
    │   ├── ObjectFiltered       a rule of the settings keeps the object from being captioned
    │   ├── KeyReused            an `Idempotency-Key` was used with another request
    │   ├── EditRefused          a caption cannot be edited or reverted
    │   │   ├── NoSuchCaption    there is no row to edit
    │   │   ├── RowEnded         the row is `deleted` or `superseded`
    │   │   ├── CaptionUnusable  the text is empty or too long, or has control characters
    │   │   └── EditConflict     the caption is another one than the person has read
    │   ├── AddressRefused       an address (URL) is none that is fetched, or leads to a private place
    │   └── FetchFailed          an address gave no image
    │       ├── FetchTooLarge    more bytes than the limit
    │       └── FetchTimeout     not whole within the time limit
    ├── ObjectGone               the generation is no longer in the bucket: an outcome, not a fault
    ├── BackfillTakenOver        another process continues the backfill
    ├── AccessDenied             the credentials lack a right: a row waits for the right, a command ends
    ├── PermanentError           another attempt fails in the same way; the row becomes `failed`
    │   ├── InvalidEvent         a delivery is not an object event
    │   ├── UnknownDelivery      a delivery has an event, in a format that is not read here
    │   ├── ForeignBucket        an object of a bucket that is not configured
    │   ├── InvalidTask          not a task prompt of Florence-2, or a wrong text for the prompt
    │   ├── InvalidCaptionId     a text is not the public id of a caption
    │   ├── InvalidImage         the bytes cannot be decoded; `code` has the reason
    │   ├── ImageRefused         the image exceeds a limit, found before or during decoding
    │   ├── InferenceFailed      the model fails on the input
    │   └── StatementRefused     Postgres refuses the values of a statement
    └── TransientError           a later attempt may succeed
        ├── DatabaseUnavailable
        │   ├── DatabaseReadOnly a standby, or a login that only reads
        │   └── SchemaOutdated   a table or a column is missing
        ├── BrokerUnavailable
        ├── StorageUnavailable
        ├── EngineUnavailable    the engine is starting or stopping, or was not reached
        ├── EngineLost           the engine died while the request was running
        ├── DecoderUnavailable   the decoder process does not start
        ├── DecoderLost          the decoder process was killed from outside while it decoded
        └── PreconditionLost     another client wrote to the object in between

`dropline.scaling.errors` adds the errors of scaling a worker pool.

`code` is the value of `captions.error_code`: stable and in lower case, for `GROUP BY`.
"""

from typing import ClassVar


class DroplineError(Exception):
    """Base class of all errors that Dropline raises."""

    #: Stable, machine-readable name of the error.
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle `code` with the message."""
        return _rebuild, (type(self), str(self), self.code)


def _rebuild(kind: type[DroplineError], message: str, code: str) -> DroplineError:
    return kind(message, code=code)


class SettingsError(DroplineError):
    """A setting is missing or has an unusable value."""

    default_code = "settings"


class LocalStackError(DroplineError):
    """A service of the local stack cannot start or has died."""

    default_code = "local_stack"


class ClientError(DroplineError):
    """A command cannot be carried out as given."""

    default_code = "client"


class ObjectMissing(ClientError):
    """An object, or the bucket of an upload, is not there."""

    default_code = "object_missing"


class ObjectFiltered(ClientError):
    """A rule of the settings keeps the object from being captioned."""

    default_code = "object_filtered"


class KeyReused(ClientError):
    """An `Idempotency-Key` was used before, with another image, address or task."""

    default_code = "idempotency_key_reused"


class EditRefused(ClientError):
    """A caption cannot be edited or reverted."""

    default_code = "edit_refused"


class NoSuchCaption(EditRefused):
    """The table has no row of the object and the task."""

    default_code = "no_such_caption"


class RowEnded(EditRefused):
    """The row is `deleted` or `superseded`: its object version is not live."""

    default_code = "row_ended"


class CaptionUnusable(EditRefused):
    """The text is empty or too long, or has characters that no caption may have."""

    default_code = "caption_unusable"


class EditConflict(EditRefused):
    """Another person, or a worker, has changed the caption since it was read."""

    default_code = "edit_conflict"


class AddressRefused(ClientError):
    """An address (URL) is none that is fetched, or leads to a place that the settings do not allow."""

    default_code = "address_refused"


class FetchFailed(ClientError):
    """An address gave no image: the server was not reached, or its answer cannot be used."""

    default_code = "fetch_failed"


class FetchTooLarge(FetchFailed):
    """The answer has more bytes than the limit."""

    default_code = "fetch_too_large"


class FetchTimeout(FetchFailed):
    """The answer was not whole within the time limit."""

    default_code = "fetch_timeout"


class ObjectGone(DroplineError):
    """The generation is no longer in the bucket: overwritten or deleted."""

    default_code = "object_gone"


class AccessDenied(DroplineError):
    """The credentials lack a required right.

    Neither permanent nor transient: a person grants the right. A row waits as after a transient error, since a
    role is often granted, or given back, while rows are at work. A command or a start ends.
    """

    default_code = "access_denied"


class PermanentError(DroplineError):
    """Another attempt fails in the same way."""

    default_code = "permanent"


class InvalidEvent(PermanentError):
    """A delivery is not an object event."""

    default_code = "invalid_event"


class UnknownDelivery(PermanentError):
    """The delivery has an object event, in a format that the function does not read.

    Deliberately not acknowledged, like `ForeignBucket`: the dead-letter topic keeps the event until the
    subscription is corrected.
    """

    default_code = "unknown_delivery"


class ForeignBucket(PermanentError):
    """The event's bucket is not in `DROPLINE_EVENTS__BUCKETS`.

    Deliberately not acknowledged: either the subscription is attached to the wrong bucket, or the list of buckets
    is wrong, and an acknowledged event would be lost. With 403, Pub/Sub delivers the event again with back-off
    until the dead-letter policy applies; the dead-letter topic then keeps the event until the list is corrected.
    """

    default_code = "foreign_bucket"


class InvalidTask(PermanentError):
    """Not a task prompt of Florence-2, or a wrong text for the prompt."""

    default_code = "invalid_task"


class InvalidCaptionId(PermanentError):
    """A text is not the public id of a caption; never the error of a row."""

    default_code = "invalid_caption_id"


class InvalidImage(PermanentError):
    """The bytes cannot be decoded to pixels."""

    default_code = "invalid_image"


class ImageRefused(PermanentError):
    """The image exceeds a limit of the deployment."""

    default_code = "image_refused"


class InferenceFailed(PermanentError):
    """The model fails on the input."""

    default_code = "inference_failed"


class StatementRefused(PermanentError):
    """Postgres refuses the values of a statement."""

    default_code = "statement_refused"


class TransientError(DroplineError):
    """A later attempt may succeed."""

    default_code = "transient"


class DatabaseUnavailable(TransientError):
    """Postgres cannot be reached, or cancelled the statement."""

    default_code = "database_unavailable"


class DatabaseReadOnly(DatabaseUnavailable):
    """Postgres refused a write: the server is a standby, perhaps until its promotion, or the login only reads."""

    default_code = "database_read_only"


class SchemaOutdated(DatabaseUnavailable):
    """A table, column or function is missing: the migrations have not run, or the URL names another database.

    Transient: rows and events wait for the migrations.
    """

    default_code = "schema_outdated"


class BrokerUnavailable(TransientError):
    """Redis cannot be reached, or refuses writes."""

    default_code = "broker_unavailable"


class StorageUnavailable(TransientError):
    """Cloud Storage cannot be reached, or answered 429 or 5xx."""

    default_code = "storage_unavailable"


class EngineUnavailable(TransientError):
    """The engine is not running, or cannot be reached."""

    default_code = "engine_unavailable"


class EngineLost(TransientError):
    """The engine died while the request was running."""

    default_code = "engine_lost"


class DecoderUnavailable(TransientError):
    """The decoder process does not start."""

    default_code = "decoder_unavailable"


class DecoderLost(TransientError):
    """The decoder process was killed from outside while it decoded an image."""

    default_code = "decoder_lost"


class PreconditionLost(TransientError):
    """The object's metadata changed between read and write."""

    default_code = "precondition_lost"


class BackfillTakenOver(DroplineError):
    """Another process continues the backfill; nothing of the batch was written."""

    default_code = "backfill_taken_over"
