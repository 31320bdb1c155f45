"""Images per second of the worker with a stub engine."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import psycopg

from benchmarks.checks import RowTimes, RunInvalidError, require_captioned_once, require_enqueued
from benchmarks.cpu import cpu_ms_each
from benchmarks.figures import Figure, cpu_figures, shown
from benchmarks.stack import BenchmarkStack, benchmark_stack
from benchmarks.uploads import DEADLINE_S, ImageFile, row_times, upload_all, written_rows

_SERVICES = ("postgres", "redis", "gcs")
#: The first image of a child includes imports and connections, so the CPU of the first tenth, at most so many
#: images, is not counted.
_MOST_WARM_UP = 64


@dataclass(frozen=True)
class WorkerResult:
    """A worker that starts with a full queue."""

    #: A description of the images.
    pictures: str
    images: int
    #: Total size of the images.
    total_bytes: int
    #: Images in the worker at the same time.
    children: int
    #: From the first claim to the last write-back, by the clock of Postgres.
    seconds: float
    images_per_s: float
    #: Images before the CPU was counted.
    warm_up: int
    #: Per image: the worker in all, its children, their decoders, parent and engine, and the servers.
    cpu_ms: dict[str, float]
    #: CPU of parent, children and engine before the worker was ready.
    start_up_cpu_s: float
    #: CPU from ready to the end of the warm-up.
    warm_up_cpu_s: float

    @property
    def title(self) -> str:
        """A heading."""
        return f"The worker with a stub engine: {self.pictures}"

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        kilobytes = shown(self.total_bytes / self.images / 1000)
        return [
            Figure("images", f"{self.images:,} of {kilobytes} kB on average; every one captioned exactly once"),
            Figure("children", str(self.children)),
            Figure("**images per second**, first claim to last metadata", f"**{shown(self.images_per_s)}**"),
            *cpu_figures(self.cpu_ms, "image"),
            Figure("not in the CPU above: the worker until it is ready", f"{shown(self.start_up_cpu_s)} s"),
            Figure(f"not in the CPU above: its first {self.warm_up} images", f"{shown(self.warm_up_cpu_s)} s"),
        ]


def measure_worker(images: Iterable[ImageFile], description: str, children: int) -> WorkerResult:
    """Drop all images while no worker runs, then start a worker and wait for the last write-back.

    Args:
        images: to upload.
        description: of the images.
        children: images in the worker at the same time.

    Raises:
        RunInvalidError: a row is missing or was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    with benchmark_stack(concurrency=children) as stack:
        stack.worker.stop()
        sizes: list[int] = []
        count = upload_all(stack, _sized(images, sizes))
        require_all_queued(stack, count)
        as_from_cloud_storage(stack)
        readings = _work(stack, count)
        rows = row_times(stack)
        require_captioned_once(rows, count)
        return _result(description, sizes, stack.concurrency, seconds_at_work(rows), readings)


@dataclass(frozen=True)
class _Readings:
    """CPU seconds per service at three times."""

    warm_up: int
    ready: dict[str, float]
    warm: dict[str, float]
    done: dict[str, float]


def _work(stack: BenchmarkStack, count: int) -> _Readings:
    warm_up = min(_MOST_WARM_UP, max(1, count // 10))
    with stack.listening() as listener:
        stack.worker.start()
        ready = warm = _cpu_seconds(stack)
        for written in written_rows(listener, count):
            if written == warm_up:
                warm = _cpu_seconds(stack)
        return _Readings(warm_up, ready, warm, _cpu_seconds(stack))


def _cpu_seconds(stack: BenchmarkStack) -> dict[str, float]:
    return stack.worker_cpu_seconds() | stack.cpu_seconds(*_SERVICES)


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
    """Seconds from the first claim to the last write-back.

    Raises:
        RunInvalidError: no row was claimed and written back.
    """
    started = [row.started_at for row in rows if row.started_at is not None]
    written = [row.metadata_written_at for row in rows if row.metadata_written_at is not None]
    if not started or not written or max(written) <= min(started):
        raise RunInvalidError("no row was claimed and written, so there is no rate; raise the number of images")
    return (max(written) - min(started)).total_seconds()


def require_all_queued(stack: BenchmarkStack, count: int) -> None:
    """Wait until each uploaded image has its row and its message.

    Raises:
        RunInvalidError: a row or a message is missing.
    """
    stack.messages.wait_for(count, DEADLINE_S)
    require_enqueued([row.id for row in row_times(stack)], stack.messages.rows(), count)


def as_from_cloud_storage(stack: BenchmarkStack) -> None:
    """Give the rows the metageneration of a new object, which the emulator's events lack.

    With it the write-back is one PATCH; without it, a read of the metadata comes first.
    """
    with psycopg.connect(stack.command_environment()["DROPLINE_DATABASE__URL"], autocommit=True) as connection:
        connection.execute("UPDATE captions SET metageneration = 1, metadata_bytes = 0")


def _sized(images: Iterable[ImageFile], sizes: list[int]) -> Iterable[ImageFile]:
    for image in images:
        sizes.append(len(image.data))
        yield image
