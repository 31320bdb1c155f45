"""The gallery under load: event streams and waiting clients while images pass through a stack with a stub engine.

    python -m benchmarks.gallery_load [--streams 200] [--waits 50] [--images 2000]

Fails if a stream missed a change or heard one twice. One more client opens a stream and never reads.
"""

import asyncio
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated
from urllib.parse import urlsplit

import httpx2
import typer
from google.cloud.storage import Bucket

from benchmarks.checks import RunInvalidError
from benchmarks.cpu import CpuReading, contention_between
from benchmarks.figures import Figure, Spread, section, shown, shown_spread
from benchmarks.gallery_clients import (
    Change,
    change_of,
    open_streams,
    require_each_once,
    wait_for_caption,
    wait_until_heard,
)
from benchmarks.provenance import EVENT_PATH_PACKAGES, Provenance
from benchmarks.stack import BenchmarkStack, benchmark_stack
from benchmarks.uploads import DEADLINE_S, ImageFile, small_images, upload
from db.listen import Listener
from dropline import caption_id
from dropline.contract import TaskPrompt, TaskRequest
from dropline.errors import DroplineError

_UPLOADS = 8
_PACKAGES = (*EVENT_PATH_PACKAGES, "fastapi", "starlette", "uvicorn")
_LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'dropline-gallery-listen'"
#: Before, in the middle and at the end.
_MEMORY_PARTS = 4


@dataclass(frozen=True)
class LoadResult:
    """What the clients heard, and the gallery's memory."""

    streams: int
    waits: int
    images: int
    changes: int
    #: From the first upload until every stream has heard every change.
    seconds: float
    #: From a caption's commit, or a later request, to the answer.
    wait_s: Spread
    cpu_s: float
    #: At the start, and after each quarter of the images.
    memory_bytes: list[int]
    listening_connections: int

    title = "The gallery with event streams and waiting clients"

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        events = self.changes * self.streams
        memory = ", ".join(f"{size / 1e6:.0f}" for size in self.memory_bytes)
        return [
            Figure("streams, and one that is never read", str(self.streams)),
            Figure("clients in `GET /api/captions/{id}?wait=60`", str(self.waits)),
            Figure("images", f"{self.images:,}"),
            Figure("changes of rows; every stream heard each exactly once", f"{self.changes:,}"),
            Figure("**events per second**, all streams together", f"**{shown(events / self.seconds)}**"),
            Figure("images per second", shown(self.images / self.seconds)),
            Figure(
                "from a caption's commit, or from a later request, to the answer", shown_spread(self.wait_s, "s")
            ),
            Figure("CPU of the gallery per event", f"{shown(self.cpu_s / events * 1e6)} µs"),
            Figure("memory of the gallery: with all streams open, then after each quarter", f"{memory} MB"),
            Figure("connections of the gallery that listen to Postgres", str(self.listening_connections)),
        ]


@dataclass
class _Readings:
    """Collected by the tasks of a run."""

    changes: Counter[Change] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    memory_bytes: list[int] = field(default_factory=list)


def measure_load(streams: int, waits: int, images: int) -> LoadResult:
    """Open all streams, then upload images, and wait for each.

    Raises:
        RunInvalidError: a stream missed a change or heard one twice.
        LocalStackError: the stack does not start.
    """
    with benchmark_stack() as stack, unread_stream(stack.gallery_url):
        return asyncio.run(_run(stack, streams, waits, images))


async def _run(stack: BenchmarkStack, streams: int, waits: int, images: int) -> LoadResult:
    readings = _Readings()
    limits = httpx2.Limits(max_connections=None)
    async with (
        httpx2.AsyncClient(base_url=stack.gallery_url, timeout=DEADLINE_S, limits=limits) as client,
        open_streams(client, streams) as opened,
    ):
        with stack.listening() as listener:
            readings.memory_bytes.append(stack.gallery_bytes())
            start, cpu_before = time.monotonic(), stack.cpu_seconds("gallery")["gallery"]
            await asyncio.gather(
                asyncio.to_thread(_collect, stack, listener, images, readings),
                _upload_and_wait(stack, client, waits, images, readings),
            )
            await wait_until_heard(opened, readings.changes.total(), DEADLINE_S)
            seconds = time.monotonic() - start
        cpu_s = stack.cpu_seconds("gallery")["gallery"] - cpu_before
        with stack.database() as database:
            listening = database.execute(_LISTENING).fetchone()
        # A second event would come late.
        await asyncio.sleep(1)
        require_each_once(opened, readings.changes)
    return LoadResult(
        streams=streams,
        waits=waits,
        images=images,
        changes=readings.changes.total(),
        seconds=seconds,
        wait_s=Spread.of(readings.waits_s),
        cpu_s=cpu_s,
        memory_bytes=readings.memory_bytes,
        listening_connections=listening[0] if listening else 0,
    )


def _collect(stack: BenchmarkStack, listener: Listener, images: int, readings: _Readings) -> None:
    """Count the changes until every row is written; the memory is read on the way."""
    written = 0
    for notice in listener.notices(DEADLINE_S):
        readings.changes[change_of(notice)] += 1
        written += notice.metadata_written
        if notice.metadata_written and written % max(1, images // _MEMORY_PARTS) == 0:
            readings.memory_bytes.append(stack.gallery_bytes())
        if written == images:
            return
    raise RunInvalidError(f"{written} of {images} rows were done after {DEADLINE_S:g} s")


async def _upload_and_wait(
    stack: BenchmarkStack, client: httpx2.AsyncClient, waits: int, images: int, readings: _Readings
) -> None:
    # Ids of uploaded images; then a None for each client.
    uploaded: asyncio.Queue[str | None] = asyncio.Queue()
    files = small_images(images)

    async def upload_next(bucket: Bucket, threads: ThreadPoolExecutor) -> None:
        for image in files:
            uploaded.put_nowait(await asyncio.get_running_loop().run_in_executor(threads, _upload, bucket, image))

    async def wait_for_each() -> None:
        while (caption := await uploaded.get()) is not None:
            readings.waits_s.append(await wait_for_caption(client, caption))

    async def upload_all() -> None:
        with stack.storage() as storage, ThreadPoolExecutor(_UPLOADS) as threads:
            bucket = storage.bucket(stack.bucket)
            await asyncio.gather(*(upload_next(bucket, threads) for _ in range(_UPLOADS)))
        for _ in range(waits):
            uploaded.put_nowait(None)

    await asyncio.gather(upload_all(), *(wait_for_each() for _ in range(waits)))


def _upload(bucket: Bucket, image: ImageFile) -> str:
    return caption_id.encode(upload(bucket, image), TaskRequest(TaskPrompt.CAPTION))


@contextmanager
def unread_stream(url: str) -> Iterator[None]:
    """A client that opens an event stream and does not read the events."""
    address = urlsplit(url)
    assert address.hostname
    assert address.port
    with socket.socket() as client:
        # The bytes then wait in the gallery, not in the buffers of the network.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.hostname, address.port))
        client.sendall(f"GET /api/events HTTP/1.1\r\nHost: {address.netloc}\r\n\r\n".encode())
        client.recv(1)  # the stream has begun
        yield


def main(
    streams: Annotated[int, typer.Option(help="Connections to /api/events.", min=1)] = 200,
    waits: Annotated[int, typer.Option(help="Clients that wait for a caption.", min=1)] = 50,
    images: Annotated[int, typer.Option(help="Small images.", min=4)] = 2000,
) -> None:
    """Measure the gallery with event streams and waiting clients, on a local stack with a stub engine."""
    provenance = Provenance.gather("benchmarks.gallery_load", sys.argv[1:], _PACKAGES)
    before = CpuReading.now()
    try:
        result = measure_load(streams, waits, images)
    except (RunInvalidError, DroplineError) as error:
        typer.echo(f"The run is not valid: {error}", err=True)
        raise typer.Exit(1) from None
    contention = contention_between(before, CpuReading.now())
    typer.echo("\n".join(section(provenance.title, provenance.figures())))
    typer.echo("\n".join(section(result.title, [*result.figures(), *contention.figures()])))


if __name__ == "__main__":
    typer.run(main)
