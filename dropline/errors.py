"""Every error Dropline raises on purpose.

    DroplineError
    ├── SettingsError            a setting is missing or wrong; names the variable
    ├── LocalStackError          a part of the laptop's cloud cannot start, or died
    ├── ClientError              what was asked for on the command line cannot be done
    ├── ObjectGone               this generation is no longer in the bucket: an outcome, not a fault
    ├── PermanentError           trying again gives the same answer; the row becomes `failed`
    │   ├── InvalidEvent         a message that is no object event
    │   ├── ForeignBucket        an object of a bucket that is not configured
    │   ├── InvalidTask          not a task prompt of Florence-2, or text where none belongs
    │   ├── InvalidImage         bytes that give no pixels; `code` says how
    │   ├── ImageRefused         a limit was passed, before or during the decoding
    │   ├── InferenceFailed      the model cannot caption this input
    │   └── AccessDenied         credentials lack a right
    └── TransientError           worth trying again, later
        ├── DatabaseUnavailable
        ├── BrokerUnavailable
        ├── StorageUnavailable
        ├── EngineUnavailable    the engine is starting, stopping, or was not reached
        ├── EngineLost           the engine died while it ran this very request
        └── PreconditionLost     somebody else wrote to the object meanwhile

`dropline.scaling.errors` adds what can go wrong between us and a worker pool.

`code` is what lands in `captions.error_code`: stable, lower case, made for `GROUP BY`.
"""

from typing import ClassVar


class DroplineError(Exception):
    """Something Dropline knows how to name went wrong."""

    #: Stable machine-readable name of the fault.
    default_code: ClassVar[str] = "error"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[object, ...]:
        """Keep `code` when the error crosses a process boundary."""
        return _rebuild, (type(self), str(self), self.code)


def _rebuild(kind: type[DroplineError], message: str, code: str) -> DroplineError:
    return kind(message, code=code)


class SettingsError(DroplineError):
    """A setting is missing or has a value that cannot be used."""

    default_code = "settings"


class LocalStackError(DroplineError):
    """A part of the local stack cannot start or has died."""

    default_code = "local_stack"


class ClientError(DroplineError):
    """A command was asked for something that cannot be done."""

    default_code = "client"


class ObjectGone(DroplineError):
    """The generation is no longer in the bucket: overwritten or deleted."""

    default_code = "object_gone"


class PermanentError(DroplineError):
    """Trying again would give the same answer."""

    default_code = "permanent"


class InvalidEvent(PermanentError):
    """A message that is not an object event."""

    default_code = "invalid_event"


class ForeignBucket(PermanentError):
    """The event's bucket is not in `DROPLINE_EVENTS__BUCKETS`.

    Not acknowledged on purpose. A subscription that brings such events is wired to the wrong bucket, or the
    list of buckets is wrong; with 204 the events would be gone for good. With 403 Pub/Sub delivers them again,
    with back-off, as often as its dead-letter policy says, and then keeps them there for when the list is right.
    """

    default_code = "foreign_bucket"


class InvalidTask(PermanentError):
    """A task prompt Florence-2 does not have, or text where it takes none."""

    default_code = "invalid_task"


class InvalidImage(PermanentError):
    """Bytes that give no pixels."""

    default_code = "invalid_image"


class ImageRefused(PermanentError):
    """The image is beyond a limit of this deployment."""

    default_code = "image_refused"


class InferenceFailed(PermanentError):
    """The model cannot caption this input."""

    default_code = "inference_failed"


class AccessDenied(PermanentError):
    """The credentials lack a right that this step needs."""

    default_code = "access_denied"


class TransientError(DroplineError):
    """Worth trying again, later."""

    default_code = "transient"


class DatabaseUnavailable(TransientError):
    """Postgres cannot be reached, or gave up on the statement."""

    default_code = "database_unavailable"


class BrokerUnavailable(TransientError):
    """Redis cannot be reached, or refuses writes."""

    default_code = "broker_unavailable"


class StorageUnavailable(TransientError):
    """Cloud Storage cannot be reached, or asks for patience (429, 5xx)."""

    default_code = "storage_unavailable"


class EngineUnavailable(TransientError):
    """The engine is not there to take the request."""

    default_code = "engine_unavailable"


class EngineLost(TransientError):
    """The engine died while it was running this very request."""

    default_code = "engine_lost"


class PreconditionLost(TransientError):
    """The object changed between our read and our write."""

    default_code = "precondition_lost"
