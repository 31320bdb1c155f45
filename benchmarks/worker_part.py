"""Tasks per second through the worker, with an engine that answers at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.checks import RowTimes, require_captioned_once, require_enqueued
from benchmarks.cpu import cpu_ms_each
from benchmarks.drops import DEADLINE_S, row_times, upload_all, wait_until_written
from benchmarks.errors import RunInvalidError
from benchmarks.figures import Figure, cpu_figures, shown
from benchmarks.pictures import Picture
from benchmarks.stage import Stage, open_stage

_SERVICES = ("worker", "postgres", "redis", "gcs")


@dataclass(frozen=True)
class WorkerResult:
    """What a worker did with a queue that was full when it started."""

    #: What was on the queue, in words.
    pictures: str
    images: int
    #: Size of all of them.
    total_bytes: int
    #: Images in flight at once.
    children: int
    #: From the first claim to the last metadata written, by Postgres's clock.
    seconds: float
    images_per_s: float
    #: Before the worker was ready: its parent, its children and its engine.
    start_up_cpu_s: float
    #: Per image, since the worker was ready: all of the worker's processes, and the servers it talks to.
    cpu_ms: dict[str, float]

    @property
    def title(self) -> str:
        """A heading."""
        return f"The worker with a stub engine: {self.pictures}"

    def figures(self) -> list[Figure]:
        """For people."""
        kilobytes = shown(self.total_bytes / self.images / 1000)
        return [
            Figure("images", f"{self.images:,} of {kilobytes} kB on average; every one captioned exactly once"),
            Figure("children", str(self.children)),
            Figure("**images per second**, first claim to last metadata", f"**{shown(self.images_per_s)}**"),
            *cpu_figures(self.cpu_ms, "image"),
            Figure("CPU of the start, not in the above", f"{shown(self.start_up_cpu_s)} s"),
        ]


def measure_worker(pictures: Iterable[Picture], description: str) -> WorkerResult:
    """Drop all pictures while no worker runs, then start one and wait for the last caption in its metadata.

    Raises:
        RunInvalidError: a row is missing, or was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    with open_stage() as stage:
        stage.worker.stop()
        sizes: list[int] = []
        count = upload_all(stage, _sized(pictures, sizes))
        _require_all_queued(stage, count)
        with stage.listening() as listener:
            stage.worker.start()
            ready = stage.cpu_seconds(*_SERVICES)
            wait_until_written(listener, count)
            done = stage.cpu_seconds(*_SERVICES)
        rows = row_times(stage)
        require_captioned_once(rows, count)
        seconds = seconds_at_work(rows)
        return WorkerResult(
            pictures=description,
            images=count,
            total_bytes=sum(sizes),
            children=stage.concurrency,
            seconds=seconds,
            images_per_s=count / seconds,
            start_up_cpu_s=ready["worker"],
            cpu_ms=cpu_ms_each(ready, done, count),
        )


def seconds_at_work(rows: Sequence[RowTimes]) -> float:
    """From the first claim to the last metadata written.

    Raises:
        RunInvalidError: no row was claimed and written.
    """
    started = [row.started_at for row in rows if row.started_at is not None]
    written = [row.metadata_written_at for row in rows if row.metadata_written_at is not None]
    if not started or not written or max(written) <= min(started):
        raise RunInvalidError("no row was claimed and written, so there is no rate; raise the number of images")
    return (max(written) - min(started)).total_seconds()


def _require_all_queued(stage: Stage, count: int) -> None:
    stage.messages.wait_for(count, DEADLINE_S)
    require_enqueued([row.id for row in row_times(stage)], stage.messages.rows(), count)


def _sized(pictures: Iterable[Picture], sizes: list[int]) -> Iterable[Picture]:
    for picture in pictures:
        sizes.append(len(picture.data))
        yield picture
