"""A real worker with two engines: both work, and either may end and return without the other."""

import os
import signal
from collections.abc import Mapping

from db import workers
from tests.support.failpoints import INFERENCE_VARIABLE, Gate, arm, engines, inferences
from tests.support.worker_rig import DEADLINE_S, Rig, png

#: Two engines on the CPU, and children enough that each has several images.
_TWO: Mapping[str, str] = {
    "DROPLINE_ENGINE__DEVICE": "cpu,cpu",
    "DROPLINE_ENGINE__MAX_BATCH": "1",
    "DROPLINE_WORKER__CONCURRENCY": "4",
    INFERENCE_VARIABLE: "0.05",
}


def caption_some(rig: Rig, shade: int, count: int = 12) -> list[int]:
    """Drop images and wait for their captions; the process ids of the engines that had batches."""
    before = len(engines(rig.directory))
    rows = rig.wait_settled([rig.drop(f"{shade}-{n}.png", png((shade, n, 7))) for n in range(count)])
    assert {row["status"] for row in rows} == {"captioned"}
    return engines(rig.directory)[before:]


def test_two_engines_share_the_images_and_one_goes_on_alone(rig: Rig) -> None:
    """A killed engine is started again by itself; meanwhile no image waits for it."""
    worker = rig.worker(**_TWO)
    both = set(caption_some(rig, 1))
    assert len(both) == 2
    with rig.database.transaction() as connection:
        row = workers.newest(connection)
    assert row is not None
    assert row.device == "none, none"
    # The next start of an engine waits here: the worker has noticed the death.
    gate = Gate(rig.directory, "loading")
    killed, other = sorted(both)
    os.kill(killed, signal.SIGKILL)
    gate.wait(DEADLINE_S)
    assert set(caption_some(rig, 2)) == {other}
    gate.open()
    assert worker.wait_for_line("engine_restarted", DEADLINE_S)
    again = set(caption_some(rig, 3))
    assert (other in again, killed in again, len(again)) == (True, False, 2)
    # Each image was run once.
    assert len(inferences(rig.directory)) == len(set(inferences(rig.directory))) == 36


def test_a_device_that_cannot_be_used_does_not_stop_the_other(rig: Rig) -> None:
    """The worker works with one engine, at its start and after a death; the other device is left alone."""
    arm(rig.directory, "loading", "unusable")
    worker = rig.worker(**_TWO)
    assert worker.wait_for_line("engine_not_ready", DEADLINE_S)
    (only,) = set(caption_some(rig, 5))
    os.kill(only, signal.SIGKILL)
    assert worker.wait_for_line("engine_restarted", DEADLINE_S)
    assert len(set(caption_some(rig, 6))) == 1


def test_an_engine_that_can_be_used_no_more_leaves_the_other_at_work(rig: Rig) -> None:
    """As after a GPU has fallen off the bus."""
    worker = rig.worker(**_TWO)
    killed, other = sorted(set(caption_some(rig, 7)))
    arm(rig.directory, "loading", "unusable")
    os.kill(killed, signal.SIGKILL)
    assert worker.wait_for_line("engine_unusable", DEADLINE_S)
    assert set(caption_some(rig, 8)) == {other}


def test_a_worker_starts_with_the_engines_that_become_ready(rig: Rig) -> None:
    """The other one is started again, and then has its share."""
    arm(rig.directory, "loading", "engine")
    worker = rig.worker(**_TWO)
    assert worker.wait_for_line("engine_restarted", DEADLINE_S)
    assert len(set(caption_some(rig, 4))) == 2
