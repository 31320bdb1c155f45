"""Events per second of the function: from a push request to a row and a message."""

import base64
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from benchmarks.checks import RunInvalidError, require_enqueued, require_statuses
from benchmarks.cpu import cpu_ms_each
from benchmarks.figures import Figure, Spread, cpu_figures, shown, shown_spread
from benchmarks.stack import BenchmarkStack, benchmark_stack
from benchmarks.uploads import row_times

_CONNECTIONS = 16
#: Enough events to use every thread and every pooled connection.
_WARM_UP = 20 * _CONNECTIONS
_SERVICES = ("function", "postgres", "redis")
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class PushResponse:
    """A response; times by `time.perf_counter`, in seconds."""

    status: int
    sent: float
    answered: float


@dataclass(frozen=True)
class PushRun:
    """The responses to all push requests."""

    responses: list[PushResponse]
    #: CPU seconds of the client.
    cpu_s: float

    @property
    def seconds(self) -> float:
        """From the first request to the last response."""
        first = min(response.sent for response in self.responses)
        return max(response.answered for response in self.responses) - first


@dataclass(frozen=True)
class FunctionResult:
    """The function under the load of clients that send the next request right after each response."""

    title = "The function: from a push request to a row and a message"
    events: int
    #: Events before the measured ones.
    warm_up: int
    connections: int
    seconds: float
    events_per_s: float
    answer_ms: Spread
    #: Per event: the function's process with its parent, both servers, and the client.
    cpu_ms: dict[str, float]

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        return [
            Figure(
                "events", f"{self.events:,}, after {self.warm_up} to warm up; every one has its row and message"
            ),
            Figure("load", f"{self.connections} kept-alive connections, each posting again once it is answered"),
            Figure("**events per second**, one process", f"**{shown(self.events_per_s)}**"),
            Figure("time to an answer, under this load", shown_spread(self.answer_ms, "ms")),
            *cpu_figures(self.cpu_ms, "event"),
        ]


def measure_function(events: int) -> FunctionResult:
    """Post `events` distinct events while no worker runs.

    Raises:
        RunInvalidError: an event was not accepted, or its row or message is missing.
        LocalStackError: the stack does not start.
    """
    with benchmark_stack() as stack:
        stack.worker.stop()
        bodies = [finalize_envelope(stack.bucket, number) for number in range(_WARM_UP + events)]
        _post(stack, bodies[:_WARM_UP])
        before = stack.cpu_seconds(*_SERVICES)
        run = _post(stack, bodies[_WARM_UP:])
        after = stack.cpu_seconds(*_SERVICES)
        require_enqueued([row.id for row in row_times(stack)], stack.messages.rows(), len(bodies))
    return _result(run, cpu_ms_each(before, after, events))


def _post(stack: BenchmarkStack, bodies: list[bytes]) -> PushRun:
    run = post_from_process(stack.function_url, bodies, _CONNECTIONS)
    require_statuses([response.status for response in run.responses])
    return run


def _result(run: PushRun, cpu_ms: dict[str, float]) -> FunctionResult:
    events = len(run.responses)
    return FunctionResult(
        events=events,
        warm_up=_WARM_UP,
        connections=_CONNECTIONS,
        seconds=run.seconds,
        events_per_s=events / run.seconds,
        answer_ms=Spread.of((response.answered - response.sent) * 1000 for response in run.responses),
        cpu_ms=cpu_ms | {"client": run.cpu_s * 1000 / events},
    )


def post_from_process(url: str, bodies: Sequence[bytes], connections: int) -> PushRun:
    """`post_all` in a fresh process, so that the GIL of the benchmark does not limit the rate.

    Raises:
        RunInvalidError: the server cannot be reached, or closed a connection.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as client:
        try:
            return client.submit(post_all, url, bodies, connections).result()
        except (OSError, HTTPException) as error:
            raise RunInvalidError(f"{url} did not take all {len(bodies)} requests: {error!r}") from error


def post_all(url: str, bodies: Sequence[bytes], connections: int) -> PushRun:
    """Post all bodies over kept-alive connections, one thread each; a thread posts again after each response.

    Raises:
        OSError, HTTPException: the server cannot be reached, or closed a connection.
    """
    began = time.process_time()
    with ThreadPoolExecutor(connections) as threads:
        shares = [bodies[first::connections] for first in range(connections)]
        responses = threads.map(lambda share: list(_post_share(url, share)), shares)
        flat = [response for share in responses for response in share]
    return PushRun(flat, time.process_time() - began)


def _post_share(url: str, bodies: Sequence[bytes]) -> Iterator[PushResponse]:
    address = urlsplit(url)
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)) as connection:
        for body in bodies:
            sent = time.perf_counter()
            connection.request("POST", address.path or "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            yield PushResponse(response.status, sent, time.perf_counter())


def finalize_envelope(bucket: str, number: int) -> bytes:
    """The body of a Pub/Sub push request for the new object `number`, as Cloud Storage sends it (JSON_API_V1)."""
    name = f"events/{number:06}.jpg"
    generation = str(1_700_000_000_000_000 + number)
    message = {
        "attributes": {
            "notificationConfig": f"projects/_/buckets/{bucket}/notificationConfigs/1",
            "eventType": "OBJECT_FINALIZE",
            "payloadFormat": "JSON_API_V1",
            "bucketId": bucket,
            "objectId": name,
            "objectGeneration": generation,
            "eventTime": "2026-01-01T00:00:00.000001Z",
        },
        "data": base64.b64encode(json.dumps(_resource(bucket, name, generation)).encode()).decode(),
        "messageId": str(number),
        "publishTime": "2026-01-01T00:00:00.1Z",
    }
    return json.dumps({"subscription": "projects/benchmark/subscriptions/push", "message": message}).encode()


def _resource(bucket: str, name: str, generation: str) -> dict[str, str]:
    root = f"https://www.googleapis.com/storage/v1/b/{bucket}/o/{name}"
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "selfLink": root,
        "name": name,
        "bucket": bucket,
        "generation": generation,
        "metageneration": "1",
        "contentType": "image/jpeg",
        "timeCreated": "2026-01-01T00:00:00.000Z",
        "updated": "2026-01-01T00:00:00.000Z",
        "storageClass": "STANDARD",
        "timeStorageClassUpdated": "2026-01-01T00:00:00.000Z",
        "size": "51200",
        "md5Hash": "1B2M2Y8AsgTpgAmY7PhCfg==",
        "mediaLink": f"{root}?generation={generation}&alt=media",
        "crc32c": "AAAAAA==",
        "etag": "CJizpcCd1YADEAE=",
    }
