"""Many objects dropped at once, while the worker runs: whether function and worker starve each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from benchmarks.checks import RowTimes, RunInvalidError, require_captioned_once
from benchmarks.figures import Figure, shown
from benchmarks.stack import benchmark_stack
from benchmarks.uploads import row_times, small_images, upload_all, wait_until_written


@dataclass(frozen=True)
class DropResult:
    """Function and worker during a drop, by the clock of Postgres."""

    title = "Many objects at once, function and worker together"
    images: int
    children: int
    #: From the first row to the last one.
    intake_s: float
    #: Captions before the last row was made, and from then on.
    captions_meanwhile: int
    captions_after: int
    #: From the last row to the last caption.
    rest_s: float
    #: Longest time without a new row, and without a caption: from the first to the last of them.
    longest_pause_of_rows_s: float
    longest_pause_of_captions_s: float
    #: CPU of the services during the drop.
    cpu_s: dict[str, float]

    def figures(self) -> list[Figure]:
        """The lines of the report."""
        intake, rest = max(self.intake_s, 1e-3), max(self.rest_s, 1e-3)
        return [
            Figure("objects", f"{self.images:,} small PNGs; every one captioned exactly once"),
            Figure("children", str(self.children)),
            Figure("**rows per second**, first to last", f"**{shown(self.images / intake)}**"),
            Figure("captions per second, meanwhile", shown(self.captions_meanwhile / intake)),
            Figure("captions per second, afterwards", shown(self.captions_after / rest)),
            Figure("longest pause without a new row", f"{shown(self.longest_pause_of_rows_s)} s"),
            Figure("longest pause without a caption", f"{shown(self.longest_pause_of_captions_s)} s"),
            *(Figure(f"CPU, {name}", f"{shown(seconds)} s") for name, seconds in self.cpu_s.items()),
        ]


def measure_drop(images: int, children: int) -> DropResult:
    """Drop all images at once on a stack whose worker is warm, and wait for the last write-back.

    Args:
        images: to upload.
        children: images in the worker at the same time.

    Raises:
        RunInvalidError: a row is missing or was not captioned exactly once.
        LocalStackError: the stack does not start.
    """
    with benchmark_stack(concurrency=children) as stack, stack.listening() as listener:
        # The first image of each child includes its imports.
        warm_up = 8 * children
        upload_all(stack, small_images(warm_up, "warm-up"))
        wait_until_written(listener, warm_up)
        before = stack.cpu_seconds("function", "worker")
        upload_all(stack, small_images(images, "drop", first=warm_up))
        wait_until_written(listener, images)
        after = stack.cpu_seconds("function", "worker")
        rows = row_times(stack)
        require_captioned_once(rows, warm_up + images)
        cpu_s = {name: after[name] - before[name] for name in after}
        return drop_result(rows[warm_up:], children, cpu_s)


def drop_result(rows: Sequence[RowTimes], children: int, cpu_s: dict[str, float]) -> DropResult:
    """The figures of the rows of a drop.

    Raises:
        RunInvalidError: a row has no caption.
    """
    queued = sorted(row.queued_at for row in rows)
    captioned = sorted(row.captioned_at for row in rows if row.captioned_at is not None)
    if not queued or len(captioned) != len(queued):
        raise RunInvalidError(f"{len(captioned)} of {len(queued)} rows have a caption")
    meanwhile = sum(each <= queued[-1] for each in captioned)
    return DropResult(
        images=len(rows),
        children=children,
        intake_s=(queued[-1] - queued[0]).total_seconds(),
        captions_meanwhile=meanwhile,
        captions_after=len(captioned) - meanwhile,
        rest_s=max(0.0, (captioned[-1] - queued[-1]).total_seconds()),
        longest_pause_of_rows_s=_longest_pause(queued),
        longest_pause_of_captions_s=_longest_pause(captioned),
        cpu_s=cpu_s,
    )


def _longest_pause(times: Sequence[datetime]) -> float:
    return max(((later - sooner).total_seconds() for sooner, later in pairwise(times)), default=0.0)
