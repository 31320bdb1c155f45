"""Tasks per second through the worker, with an engine that answers at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.checks import RowTimes, require_captioned_once, require_enqueued
from benchmarks.cpu import cpu_ms_each
from benchmarks.drops import DEADLINE_S, row_times, upload_all, written_rows
from benchmarks.errors import RunInvalidError
from benchmarks.figures import Figure, cpu_figures, shown
from benchmarks.pictures import Picture
from benchmarks.stage import Stage, open_stage

_SERVICES = ("postgres", "redis", "gcs")
#: A child's first image costs it imports and connections: CPU is counted after a tenth of the images, or so many.
_MOST_WARM_UP = 64


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
    #: Images that were done before CPU was counted.
    warm_up: int
    #: Per image: all of the worker's processes, the parts they play, and the servers it talks to.
    cpu_ms: dict[str, float]
    #: Before the worker was ready: its parent, its children and its engine.
    start_up_cpu_s: float
    #: From then to the end of the warm-up.
    warm_up_cpu_s: float

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
            Figure("not in the CPU above: the worker until it is ready", f"{shown(self.start_up_cpu_s)} s"),
            Figure(f"not in the CPU above: its first {self.warm_up} images", f"{shown(self.warm_up_cpu_s)} s"),
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
        readings = _work(stage, count)
        rows = row_times(stage)
        require_captioned_once(rows, count)
        return _result(description, sizes, stage.concurrency, seconds_at_work(rows), readings)


@dataclass(frozen=True)
class _Readings:
    """CPU seconds so far, per service."""

    warm_up: int
    ready: dict[str, float]
    warm: dict[str, float]
    done: dict[str, float]


def _work(stage: Stage, count: int) -> _Readings:
    warm_up = min(_MOST_WARM_UP, max(1, count // 10))
    with stage.listening() as listener:
        stage.worker.start()
        ready = warm = _cpu_seconds(stage)
        for written in written_rows(listener, count):
            if written == warm_up:
                warm = _cpu_seconds(stage)
        return _Readings(warm_up, ready, warm, _cpu_seconds(stage))


def _cpu_seconds(stage: Stage) -> dict[str, float]:
    return stage.worker_cpu_seconds() | stage.cpu_seconds(*_SERVICES)


def _result(
    description: str, sizes: Sequence[int], children: int, seconds: float, readings: _Readings
) -> WorkerResult:
    images = len(sizes)
    return WorkerResult(
        pictures=description,
        images=images,
        total_bytes=sum(sizes),
        children=children,
        seconds=seconds,
        images_per_s=images / seconds,
        warm_up=readings.warm_up,
        cpu_ms=cpu_ms_each(readings.warm, readings.done, images - readings.warm_up),
        start_up_cpu_s=readings.ready["worker"],
        warm_up_cpu_s=readings.warm["worker"] - readings.ready["worker"],
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
