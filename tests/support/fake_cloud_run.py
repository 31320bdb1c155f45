"""Cloud Run's Admin API for one worker pool: GET, PATCH, operations; with faults, and a log.

As strict as the real one may be: a body without the template is refused, since it would reset the service account,
and so is a body with the etag of an earlier state.
"""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, urlsplit

from tests.support.http_stand_in import JsonHandler, StandInServer

POOL = "projects/drops/locations/europe-west4/workerPools/captions"
_MASK = "scaling.manualInstanceCount"
_OPERATION = "projects/drops/locations/europe-west4/operations"
_ACCOUNT = "dropline-worker@drops.iam.gserviceaccount.com"
_NO_ACCOUNT = (
    "Permission 'iam.serviceaccounts.actAs' denied on service account 1234-compute@developer.gserviceaccount.com"
)


@dataclass
class FakeCloudRun:
    """Handle on a running stand-in."""

    url: str
    #: The current number of instances.
    instances: int = 0
    #: All numbers set, in order.
    history: list[int] = field(default_factory=list)
    #: Called with each number set, before the answer.
    on_change: Callable[[int], object] = lambda _: None
    #: What a GET has of the instances.
    image: str = "worker:1"
    conditions: list[dict[str, str]] = field(default_factory=list)
    #: The error of the operations to come, for those who wait; None: they succeed.
    operation_failure: dict[str, object] | None = None
    #: Operations that were waited for.
    waited: list[str] = field(default_factory=list)
    #: Number of the GETs.
    reads: int = 0
    _version: int = 1
    _faults: list["Fault"] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, status: int, times: int = 1) -> None:
        """Answer the next PATCHes with an error; the number is unchanged."""
        self._add(times, Fault(status=status))

    def lose_response(self, times: int = 1) -> None:
        """Execute the next PATCHes, and close the connections without an answer."""
        self._add(times, Fault(lose_response=True))

    def fail_operation(self, times: int = 1) -> None:
        """Answer the next PATCHes with a failed operation."""
        self._add(times, Fault(failed_operation=True))

    def before(self, act: Callable[[], object]) -> None:
        """Run `act` once, between the arrival of the next PATCH and its effect."""
        self._add(1, Fault(before=act))

    def around(self, act: Callable[[], object]) -> None:
        """Run `act` before the next PATCH takes effect, and again before its answer."""
        self._add(1, Fault(before=act, after=act))

    def take_fault(self) -> "Fault":
        """Return and use up the fault of the next PATCH."""
        with self._lock:
            return self._faults.pop(0) if self._faults else Fault()

    def set(self, instances: int) -> None:
        """A number takes effect."""
        with self._lock:
            self.instances = instances
            self.history.append(instances)
            self._version += 1
        self.on_change(instances)

    def change(self) -> None:
        """Change the etag, as a change of the labels does."""
        with self._lock:
            self._version += 1

    def document(self) -> dict[str, object]:
        """The worker pool as a GET has it."""
        with self._lock:
            return {
                "name": POOL,
                "etag": f'"{self._version}"',
                "scaling": {"manualInstanceCount": self.instances},
                "template": {"serviceAccount": _ACCOUNT, "containers": [{"image": self.image}]},
                "conditions": self.conditions,
            }

    def _add(self, times: int, fault: "Fault") -> None:
        with self._lock:
            self._faults += [fault] * times


@dataclass(frozen=True)
class Fault:
    """A fault of a PATCH."""

    status: int | None = None
    lose_response: bool = False
    failed_operation: bool = False
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None


@contextlib.contextmanager
def serve() -> Iterator[FakeCloudRun]:
    """A stand-in on a free port while the block lasts."""
    server = _Server(_Handler)
    server.pool = FakeCloudRun(server.url)
    with server.serving():
        yield server.pool


class _Server(StandInServer):
    pool: FakeCloudRun


class _Handler(JsonHandler):
    server: _Server

    def do_GET(self) -> None:  # noqa: N802 - called by the base class
        if urlsplit(self.path).path != f"/v2/{POOL}":
            return self.refuse(HTTPStatus.NOT_FOUND, "no such worker pool")
        self.server.pool.reads += 1
        return self.answer(HTTPStatus.OK, self.server.pool.document())

    def do_POST(self) -> None:  # noqa: N802 - called by the base class
        self.read_body()
        operation = self.path.removeprefix("/v2/").removesuffix(":wait")
        if not self.path.endswith(":wait") or not operation.startswith(f"{_OPERATION}/"):
            return self.refuse(HTTPStatus.NOT_FOUND, "no such operation")
        self.server.pool.waited.append(operation)
        failure = self.server.pool.operation_failure
        return self.answer(
            HTTPStatus.OK, {"name": operation, "done": True} | ({"error": failure} if failure else {})
        )

    def do_PATCH(self) -> None:  # noqa: N802 - called by the base class
        parts = urlsplit(self.path)
        body = self.read_body()
        fault = self.server.pool.take_fault()
        fault.before()
        if fault.status is not None:
            return self.refuse(fault.status, f"told to answer {fault.status}")
        if parts.path != f"/v2/{POOL}":
            return self.refuse(HTTPStatus.NOT_FOUND, "no such worker pool")
        instances = _instances(body)
        # Without the mask the PATCH would replace the whole worker pool with the body.
        if parse_qs(parts.query).get("updateMask") != [_MASK] or instances is None:
            return self.refuse(HTTPStatus.BAD_REQUEST, f"only {_MASK} can be changed, and to a number")
        given, current = json.loads(body), self.server.pool.document()
        if (given.get("template") or {}).get("serviceAccount") != _ACCOUNT:
            return self.refuse(HTTPStatus.FORBIDDEN, _NO_ACCOUNT)
        if given.get("etag") != current["etag"]:
            return self.refuse(HTTPStatus.CONFLICT, f"the etag {given.get('etag')} is not {current['etag']}")
        return self._change(instances, fault)

    def _change(self, instances: int, fault: Fault) -> None:
        if fault.failed_operation:
            failure = {"code": 8, "message": "told to fail"}
            return self.answer(HTTPStatus.OK, {"name": f"{_OPERATION}/1", "done": True, "error": failure})
        self.server.pool.set(instances)
        fault.after()
        if fault.lose_response:
            self.close_connection = True
            return None
        return self.answer(HTTPStatus.OK, {"name": f"{_OPERATION}/1", "done": False})


def _instances(body: bytes) -> int | None:
    try:
        found = json.loads(body)["scaling"]["manualInstanceCount"]
    except (ValueError, KeyError, TypeError):
        return None
    return found if isinstance(found, int) and found >= 0 else None
