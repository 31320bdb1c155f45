"""Posts push requests from a process of its own, so that the benchmark's GIL is not what gets measured."""

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from benchmarks.errors import RunInvalidError

_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Answer:
    """One request's fate; times are those of `time.perf_counter`, in seconds."""

    status: int
    sent: float
    answered: float


@dataclass(frozen=True)
class Posted:
    """What came of all requests."""

    answers: list[Answer]
    #: CPU seconds of the client.
    cpu_s: float

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return max(answer.answered for answer in self.answers) - min(answer.sent for answer in self.answers)


def post_all_elsewhere(url: str, bodies: Sequence[bytes], connections: int) -> Posted:
    """`post_all` in a fresh process.

    Raises:
        RunInvalidError: the server cannot be reached, or broke a connection.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as client:
        try:
            return client.submit(post_all, url, bodies, connections).result()
        except (OSError, HTTPException) as error:
            raise RunInvalidError(f"{url} did not take all {len(bodies)} requests: {error!r}") from error


def post_all(url: str, bodies: Sequence[bytes], connections: int) -> Posted:
    """Posts all bodies over so many kept-alive connections, a thread each; each posts again once it is answered.

    Raises:
        OSError, HTTPException: the server cannot be reached, or broke a connection.
    """
    began = time.process_time()
    with ThreadPoolExecutor(connections) as threads:
        shares = [bodies[first::connections] for first in range(connections)]
        answers = threads.map(lambda share: list(_post_share(url, share)), shares)
        flat = [answer for share in answers for answer in share]
    return Posted(flat, time.process_time() - began)


def _post_share(url: str, bodies: Sequence[bytes]) -> Iterator[Answer]:
    address = urlsplit(url)
    with closing(HTTPConnection(address.hostname or "", address.port, timeout=_TIMEOUT_S)) as connection:
        for body in bodies:
            sent = time.perf_counter()
            connection.request("POST", address.path or "/", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            response.read()
            yield Answer(response.status, sent, time.perf_counter())
