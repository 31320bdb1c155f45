"""The errors of the client.

    DroplineError
    └── ServiceError             a request to the service has no result
        ├── ServiceUnreachable   no connection: refused, no such host, or lost
        ├── ServiceTimeout       no answer within the time of one request; a TimeoutError too
        ├── UnexpectedAnswer     the answer is not one of Dropline's API
        ├── Problem              the service refused: a problem document (RFC 9457), with `status` and `code`
        ├── CaptionFailed        the row ended without a caption; has `caption`, with the reason
        └── NoAnswerYet          no caption within `timeout`; has `id`, to wait again; a TimeoutError too

A wrong argument is a `ClientError`; a file that cannot be read is an `OSError`.
"""

import copyreg
from typing import TYPE_CHECKING

from dropline.contract import Status
from dropline.errors import DroplineError

if TYPE_CHECKING:
    from dropline.client.results import Caption, Submitted


class ServiceError(DroplineError):
    """A request to the service has no result."""

    default_code = "service"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all attributes."""
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class ServiceUnreachable(ServiceError):
    """No connection to the service."""

    default_code = "service_unreachable"


class ServiceTimeout(ServiceError, TimeoutError):
    """No answer within the time of one request."""

    default_code = "service_timeout"


class UnexpectedAnswer(ServiceError):
    """The answer is not one of Dropline's API."""

    default_code = "unexpected_answer"


class Problem(ServiceError):
    """The service refused the request; `str` is its words, with what to do."""

    default_code = "problem"

    def __init__(self, message: str, *, code: str | None = None, status: int = 500, title: str = "") -> None:
        super().__init__(message, code=code)
        #: HTTP status.
        self.status = status
        #: The meaning of the HTTP status.
        self.title = title


class CaptionFailed(ServiceError):
    """The row ended without a caption: `failed`, `superseded` or `deleted`."""

    default_code = "caption_failed"

    def __init__(self, caption: "Caption") -> None:
        reason = caption.error or f"the row is {caption.status}"
        super().__init__(f"no caption of {caption.uri}: {reason}", code=caption.error_code)
        #: The row, with the reason in `error_code` and `error`.
        self.caption = caption


class NoAnswerYet(ServiceError, TimeoutError):
    """The row has not ended within `timeout`; the work goes on."""

    default_code = "no_answer_yet"

    def __init__(self, submitted: "Submitted", timeout_s: float) -> None:
        name = submitted.uri or submitted.id
        super().__init__(f"no caption of {name} after {timeout_s:g} s (status {submitted.status}); wait again")
        #: Names the caption; `Client.wait(id)` waits again.
        self.id: str = submitted.id
        self.status: Status = submitted.status
