"""The time of a single drop on an idle stack."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from google.cloud.storage import Bucket

from benchmarks.checks import RowTimes, RunInvalidError, require_captioned_once
from benchmarks.figures import Figure, Spread, shown_spread
from benchmarks.stack import BenchmarkStack, benchmark_stack
from benchmarks.uploads import ImageFile, row_times, small_images, upload, upload_all, wait_until_written
from db.listen import Listener
from dropline.contract import Status

#: Enough drops for each child of the worker to open its connections.
_WARM_UP = 32
_DEADLINE_S = 120.0


@dataclass(frozen=True)
class DropTimes:
    """The times of an upload and of the notifications of the row, by `time.perf_counter`, in seconds."""

    #: `began` by the system's clock, which is also the clock of Postgres.
    began_at: datetime
    began: float
    returned: float
    captioned: float
    written: float


@dataclass(frozen=True)
class LatencyResult:
    """Milliseconds of one drop at a time; "captioned" is the arrival of the notification at a listener."""

    title = "One drop at a time on the idle stack"
    drops: int
    #: Drops before the measured ones.
    warm_up: int
    upload_ms: Spread
    began_to_captioned_ms: Spread
    #: Below zero if the notification arrives before the response to the upload.
    returned_to_captioned_ms: Spread
    began_to_written_ms: Spread
    #: By the system's clock, to the arrival of the event at Pub/Sub. Before it publishes an event, the client of
    #: Pub/Sub in the storage emulator waits 10 ms for more (`DelayThreshold` of the client for Go).
    began_to_published_ms: Spread
    published_to_captioned_ms: Spread
    #: By the system's clock: the beginnings of the transactions of insert, claim and caption.
    published_to_queued_ms: Spread
    queued_to_claimed_ms: Spread
    claimed_to_captioned_ms: Spread

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        return [
            Figure(
                "drops", f"{self.drops:,}, after {self.warm_up} to warm up; the next one after the last is done"
            ),
            Figure("the upload itself", shown_spread(self.upload_ms, "ms")),
            Figure("**upload returned → captioned**", shown_spread(self.returned_to_captioned_ms, "ms")),
            Figure("upload begun → captioned", shown_spread(self.began_to_captioned_ms, "ms")),
            Figure("upload begun → metadata written", shown_spread(self.began_to_written_ms, "ms")),
            Figure("event published → captioned", shown_spread(self.published_to_captioned_ms, "ms")),
            Figure("of which begun → event published", shown_spread(self.began_to_published_ms, "ms")),
            Figure("of which published → row made", shown_spread(self.published_to_queued_ms, "ms")),
            Figure("of which row made → claimed", shown_spread(self.queued_to_claimed_ms, "ms")),
            Figure("of which claimed → captioned", shown_spread(self.claimed_to_captioned_ms, "ms")),
        ]


def measure_latency(drops: int) -> LatencyResult:
    """Drop small images in sequence, each after the metadata of the previous one is written.

    Raises:
        RunInvalidError: a drop was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    with benchmark_stack() as stack:
        warm_up(stack)
        with stack.listening() as listener, stack.storage() as client, ThreadPoolExecutor(1) as uploader:
            bucket = client.bucket(stack.bucket)
            upload(bucket, next(iter(small_images(1, "connects"))))
            wait_until_written(listener, 1)
            images = list(small_images(drops, "one-by-one"))
            publications = stack.publications()
            measured = [timed_drop(listener, uploader, bucket, image) for image in images]
        times = publications.times([image.name for image in images])
        rows = row_times(stack)
        require_captioned_once(rows, _WARM_UP + 1 + drops)
    return _result(measured, [times[image.name] for image in images], rows[-drops:])


def warm_up(stack: BenchmarkStack) -> None:
    """Drop some images, until each child of the worker has its connections."""
    with stack.listening() as listener:
        upload_all(stack, small_images(_WARM_UP, "warm-up"))
        wait_until_written(listener, _WARM_UP)


def timed_drop(listener: Listener, uploader: Executor, bucket: Bucket, image: ImageFile) -> DropTimes:
    """Drop an image, and wait until the metadata are written; the notifications of other rows are passed over."""
    # The upload has a thread of its own, because the notification may arrive before the response.
    times = uploader.submit(_timed_upload, bucket, image)
    captioned = 0.0
    for notice in listener.notices(_DEADLINE_S):
        now = time.perf_counter()
        if notice.object_name != image.name:
            continue
        if notice.status is Status.CAPTIONED and not captioned:
            captioned = now
        if notice.metadata_written:
            return DropTimes(*times.result(), captioned, now)
    times.result()  # raises the error of a failed upload
    raise RunInvalidError(f"{image.name} was not captioned and written within {_DEADLINE_S:g} s")


def _timed_upload(bucket: Bucket, image: ImageFile) -> tuple[datetime, float, float]:
    began_at, began = datetime.now(UTC), time.perf_counter()
    upload(bucket, image)
    return began_at, began, time.perf_counter()


def _result(drops: Sequence[DropTimes], published: Sequence[datetime], rows: Sequence[RowTimes]) -> LatencyResult:
    return LatencyResult(
        drops=len(drops),
        warm_up=_WARM_UP + 1,
        upload_ms=Spread.of((drop.returned - drop.began) * 1000 for drop in drops),
        began_to_captioned_ms=Spread.of((drop.captioned - drop.began) * 1000 for drop in drops),
        returned_to_captioned_ms=Spread.of((drop.captioned - drop.returned) * 1000 for drop in drops),
        began_to_written_ms=Spread.of((drop.written - drop.began) * 1000 for drop in drops),
        began_to_published_ms=_between(
            (drop.began_at, event) for drop, event in zip(drops, published, strict=True)
        ),
        published_to_captioned_ms=Spread.of(
            (drop.captioned - drop.began) * 1000 - (event - drop.began_at).total_seconds() * 1000
            for drop, event in zip(drops, published, strict=True)
        ),
        published_to_queued_ms=_between(
            (event, row.queued_at) for event, row in zip(published, rows, strict=True)
        ),
        queued_to_claimed_ms=_between((row.queued_at, row.started_at) for row in rows),
        claimed_to_captioned_ms=_between((row.started_at, row.captioned_at) for row in rows),
    )


def _between(times: Iterable[tuple[datetime | None, datetime | None]]) -> Spread:
    return Spread.of((end - start).total_seconds() * 1000 for start, end in times if start and end)
