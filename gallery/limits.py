"""Limits on one client: requests and submissions a minute, bytes of a request."""

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from dropline.errors import PermanentError, TransientError
from dropline.settings import GallerySettings

#: Names with a bucket. The bucket that was idle longest is dropped first.
_MOST_NAMES = 10_000


class TooManyRequests(TransientError):
    """The sender has used up the requests of the minute."""

    default_code = "too_many_requests"

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class Overloaded(TransientError):
    """The gallery has the largest number of requests, streams or waits."""

    default_code = "overloaded"


class RequestTooSlow(TransientError):
    """The body of a request takes too long to arrive."""

    default_code = "request_too_slow"


class RequestTooLarge(PermanentError):
    """The body of a request has too many bytes."""

    default_code = "request_too_large"


@dataclass(frozen=True, slots=True)
class Limits:
    """The rates of a gallery."""

    requests: "RateLimit"
    submissions: "RateLimit"

    @classmethod
    def from_settings(cls, settings: GallerySettings) -> Self:
        """The rates of the settings, all unused."""
        return cls(
            RateLimit(settings.requests_per_minute, "requests"),
            RateLimit(settings.submissions_per_minute, "submissions"),
        )


class RateLimit:
    """A bucket of tokens for each name: full at first, and filled again within a minute. For one thread."""

    def __init__(self, per_minute: int, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Limit each name to `per_minute` of `what`, a noun in the plural."""
        self._most = float(per_minute)
        self._what = what
        self._clock = clock
        #: Tokens left, and the time of that number.
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> None:
        """Take a token.

        Raises:
            TooManyRequests: none is left.
        """
        now = self._clock()
        left, before = self._left.pop(name, (self._most, now))
        left = min(self._most, left + (now - before) * self._most / 60)
        taken = left >= 1
        self._left[name] = (left - 1 if taken else left, now)
        if len(self._left) > _MOST_NAMES:
            self._left.popitem(last=False)
        if not taken:
            raise TooManyRequests(
                f"more than {self._most:.0f} {self._what} in a minute; wait, or raise the limit "
                "(docs/settings.md, gallery)",
                retry_after_s=(1 - left) * 60 / self._most,
            )
