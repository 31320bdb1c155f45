"""How long a single drop takes on a stack that has nothing else to do."""

import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

from google.cloud.storage import Bucket

from benchmarks.checks import RowTimes, require_captioned_once
from benchmarks.drops import row_times, upload, upload_all, wait_until_written
from benchmarks.errors import RunInvalidError
from benchmarks.figures import Figure, Spread, shown_spread
from benchmarks.pictures import Picture, small_pictures
from benchmarks.stage import Stage, open_stage
from db.listen import Listener
from dropline.contract import Status

#: Enough for each child of the worker to have made its connections.
_WARM_UP = 32
_DEADLINE_S = 120.0


@dataclass(frozen=True)
class Drop:
    """One upload and what was heard of its row; times are those of `time.perf_counter`, in seconds."""

    #: The same moment as `began`, by the system's clock, which is Postgres's too.
    began_at: datetime
    began: float
    returned: float
    captioned: float
    written: float


@dataclass(frozen=True)
class LatencyResult:
    """Milliseconds for one drop at a time; "captioned" is when a listener hears of it."""

    title = "One drop at a time on the idle stack"
    drops: int
    #: Drops before those that count.
    warm_up: int
    upload_ms: Spread
    began_to_captioned_ms: Spread
    #: Below zero where the caption was there before the client knew that its upload was.
    returned_to_captioned_ms: Spread
    began_to_written_ms: Spread
    #: By the system's clock: when the transactions began that made the row, claimed it and recorded its caption.
    began_to_queued_ms: Spread
    queued_to_claimed_ms: Spread
    claimed_to_captioned_ms: Spread

    def figures(self) -> list[Figure]:
        """For people."""
        return [
            Figure(
                "drops", f"{self.drops:,}, after {self.warm_up} to warm up; the next one after the last is done"
            ),
            Figure("the upload itself", shown_spread(self.upload_ms, "ms")),
            Figure("**upload returned → captioned**", shown_spread(self.returned_to_captioned_ms, "ms")),
            Figure("upload begun → captioned", shown_spread(self.began_to_captioned_ms, "ms")),
            Figure("upload begun → metadata written", shown_spread(self.began_to_written_ms, "ms")),
            Figure("of which begun → row made", shown_spread(self.began_to_queued_ms, "ms")),
            Figure("of which row made → claimed", shown_spread(self.queued_to_claimed_ms, "ms")),
            Figure("of which claimed → captioned", shown_spread(self.claimed_to_captioned_ms, "ms")),
        ]


def measure_latency(drops: int) -> LatencyResult:
    """Drop one small picture after the other, each once the one before is done.

    Raises:
        RunInvalidError: a drop was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    with open_stage() as stage:
        _warm_up(stage)
        with stage.listening() as listener, stage.storage() as client, ThreadPoolExecutor(1) as uploader:
            bucket = client.bucket(stage.bucket)
            upload(bucket, next(iter(small_pictures(1, "connects"))))
            wait_until_written(listener, 1)
            pictures = list(small_pictures(drops, "one-by-one"))
            measured = [_drop(listener, uploader, bucket, picture) for picture in pictures]
        rows = row_times(stage)
        require_captioned_once(rows, _WARM_UP + 1 + drops)
    return _result(measured, rows[-drops:])


def _warm_up(stage: Stage) -> None:
    with stage.listening() as listener:
        upload_all(stage, small_pictures(_WARM_UP, "warm-up"))
        wait_until_written(listener, _WARM_UP)


def _drop(listener: Listener, uploader: Executor, bucket: Bucket, picture: Picture) -> Drop:
    # The upload has a thread of its own: its row may be heard of before it returns.
    times = uploader.submit(_timed_upload, bucket, picture)
    captioned = 0.0
    for notice in listener.notices(_DEADLINE_S):
        now = time.perf_counter()
        if notice.object_name != picture.name:
            continue
        if notice.status is Status.CAPTIONED and not captioned:
            captioned = now
        if notice.metadata_written:
            return Drop(*times.result(), captioned, now)
    times.result()  # an upload that failed says so itself
    raise RunInvalidError(f"{picture.name} was not captioned and written within {_DEADLINE_S:g} s")


def _timed_upload(bucket: Bucket, picture: Picture) -> tuple[datetime, float, float]:
    began_at, began = datetime.now(UTC), time.perf_counter()
    upload(bucket, picture)
    return began_at, began, time.perf_counter()


def _result(drops: Sequence[Drop], rows: Sequence[RowTimes]) -> LatencyResult:
    return LatencyResult(
        drops=len(drops),
        warm_up=_WARM_UP + 1,
        upload_ms=Spread.of((drop.returned - drop.began) * 1000 for drop in drops),
        began_to_captioned_ms=Spread.of((drop.captioned - drop.began) * 1000 for drop in drops),
        returned_to_captioned_ms=Spread.of((drop.captioned - drop.returned) * 1000 for drop in drops),
        began_to_written_ms=Spread.of((drop.written - drop.began) * 1000 for drop in drops),
        began_to_queued_ms=_between((drop.began_at, row.queued_at) for drop, row in zip(drops, rows, strict=True)),
        queued_to_claimed_ms=_between((row.queued_at, row.started_at) for row in rows),
        claimed_to_captioned_ms=_between((row.started_at, row.captioned_at) for row in rows),
    )


def _between(times: Iterable[tuple[datetime | None, datetime | None]]) -> Spread:
    return Spread.of((end - start).total_seconds() * 1000 for start, end in times if start and end)
