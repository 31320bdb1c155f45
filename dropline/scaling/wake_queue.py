"""Cloud Tasks: one HTTP call to the function at a later time, which scales the worker pool up or checks it.

`POST https://cloudtasks.googleapis.com/v2/projects/P/locations/L/queues/Q/tasks`. Cloud Tasks repeats a call that
has no 2xx answer. Required permissions: `cloudtasks.tasks.create` on the queue, and `iam.serviceAccounts.actAs` on
the service account whose token the call has.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from dropline.errors import SettingsError
from dropline.scaling import google_api
from dropline.scaling.errors import ScalingDenied, ScalingRefused, ScalingUnknown
from dropline.settings import PoolSettings

if TYPE_CHECKING:
    from requests import Response, Session

#: Address of the API.
CLOUD_TASKS_API = "https://cloudtasks.googleapis.com"
#: Cloud Tasks takes no task for a time more than 30 days ahead.
_LATEST = timedelta(days=29)
#: After the address that wakes the worker pool: the address that checks it.
CHECK_SUFFIX = "/check"
_STAYS_UP = "the worker pool stays up"


class WakeQueue:
    """The queue of Cloud Tasks with the calls that wake the worker pool. For one thread."""

    def __init__(
        self,
        session: "Session",
        settings: PoolSettings,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Use a session that adds the credentials to each request.

        Raises:
            SettingsError: `DROPLINE_POOL__WAKE_URL` is missing.
        """
        if not settings.wake_url:
            raise SettingsError(
                "DROPLINE_POOL__WAKE_URL is not set, but DROPLINE_POOL__WAKE_QUEUE is: set it to the address of "
                "the function with the path /wake"
            )
        self._session = session
        self._settings = settings
        self._clock = clock
        self._url = f"{(settings.wake_api or CLOUD_TASKS_API).rstrip('/')}/v2/{settings.wake_queue}/tasks"

    def arrange(self, in_s: float, consequence: str = _STAYS_UP) -> None:
        """Have the function called in `in_s` seconds, or in 29 days if that is earlier.

        A repeated arrangement is harmless: a call that finds the worker pool awake has no effect.

        Args:
            in_s: seconds.
            consequence: of a failure, for its message.

        Raises:
            ScalingRefused: Cloud Tasks is busy, or there is no access token; a later call may succeed.
            ScalingDenied: an operator must correct a permission or a name first.
            ScalingUnknown: no answer.
        """
        self._send(self._settings.wake_url, in_s, consequence)

    def arrange_check(self, in_s: float, number: int = 0, operation: str = "") -> None:
        """Have the function check in `in_s` seconds that a worker is ready.

        Args:
            in_s: seconds.
            number: of the check, counted from 0 at the call that woke the worker pool.
            operation: name of Cloud Run's operation, or empty.

        Raises:
            ScalingRefused, ScalingDenied, ScalingUnknown: as `arrange`.
        """
        query = urlencode({"number": number} | ({"operation": operation} if operation else {}))
        url = f"{self._settings.wake_url}{CHECK_SUFFIX}?{query}"
        self._send(url, in_s, "the start of a worker is not checked")

    def _send(self, url: str, in_s: float, consequence: str) -> None:
        at = self._clock() + min(timedelta(seconds=in_s), _LATEST)
        response = self._post({"task": self._task(url, at)}, consequence)
        if response.ok:
            return
        message = f"Cloud Tasks answered {response.status_code} for {self._settings.wake_queue}: "
        message += google_api.error_message(response)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS):
            raise ScalingRefused(f"{message}; {consequence} until the next try")
        if google_api.is_permanent(response.status_code):
            raise ScalingDenied(
                f"{message}; {consequence}; check the queue's name (DROPLINE_POOL__WAKE_QUEUE), "
                "cloudtasks.tasks.create on it, and iam.serviceAccounts.actAs on "
                "DROPLINE_POOL__WAKE_SERVICE_ACCOUNT"
            )
        raise ScalingUnknown(f"{message}; {consequence} until the next try")

    def _task(self, url: str, at: datetime) -> dict[str, Any]:
        call: dict[str, Any] = {"url": url, "httpMethod": "POST"}
        if self._settings.wake_service_account:
            call["oidcToken"] = {"serviceAccountEmail": self._settings.wake_service_account}
            if self._settings.wake_audience:
                call["oidcToken"]["audience"] = self._settings.wake_audience
        return {"scheduleTime": at.isoformat().replace("+00:00", "Z"), "httpRequest": call}

    def _post(self, body: dict[str, Any], consequence: str) -> "Response":
        from google.auth.exceptions import GoogleAuthError
        from requests import RequestException

        try:
            return self._session.post(self._url, json=body, timeout=google_api.TIMEOUT_S, allow_redirects=False)
        except GoogleAuthError as error:
            raise ScalingRefused(f"no access token for Cloud Tasks; {consequence} ({error})") from error
        except RequestException as error:
            raise ScalingUnknown(f"no answer from Cloud Tasks; {consequence} ({error})") from error


def make_wake_queue(settings: PoolSettings) -> WakeQueue | None:
    """The queue, reached with the environment's credentials; None if the settings name none.

    Raises:
        AccessDenied: no credentials were found.
        SettingsError: `DROPLINE_POOL__WAKE_URL` is missing.
    """
    if not settings.wake_queue:
        return None
    session, _ = google_api.open_session(settings.wake_api)
    return WakeQueue(session, settings)
