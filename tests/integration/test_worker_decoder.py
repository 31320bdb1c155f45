"""A real worker and files that attack its decoder: the decoder process runs the code that a file names."""

import json
import os
import subprocess
import sys

import pytest

from local_emulators.process import python_path
from tests.support.worker_rig import Rig, png

_LIMIT = {"DROPLINE_IMAGES__DECODE_TIMEOUT_S": "3", "DROPLINE_WORKER__CONCURRENCY": "4"}


@pytest.fixture
def hostile_rig(rig: Rig) -> Rig:
    """A rig whose workers have hostile decoders."""
    rig.module = "tests.support.hostile_worker"
    return rig


def attack(name: str) -> bytes:
    """An image that makes its decoder do this; see `tests.support.hostile_decoder`."""
    return json.dumps([name]).encode()


def test_slow_files_fail_once_and_delay_a_good_one_by_no_more_than_the_limit(hostile_rig: Rig) -> None:
    """Four endless files hold four children for the time limit, once each; the good image waits no longer."""
    # Different bytes: of identical files, one is decoded at a time.
    ids = [hostile_rig.drop(f"{n}.png", attack("loop") + b" " * n) for n in range(4)]
    good = hostile_rig.drop("good.png", png())
    hostile_rig.worker(**_LIMIT)
    *slow, captioned = hostile_rig.wait_settled([*ids, good])
    assert {(row["status"], row["error_code"], row["attempts"]) for row in slow} == {
        ("failed", "decode_timeout", 1)
    }
    assert captioned["status"] == "captioned"
    assert captioned["attempts"] == 1


def test_a_crashing_file_fails_once_with_its_reason_and_its_child_lives(hostile_rig: Rig) -> None:
    """Crashes and memory hogs are permanent; the one child of the worker goes on."""
    worker = hostile_rig.worker(DROPLINE_WORKER__CONCURRENCY="1", DROPLINE_IMAGES__CHILD_MEMORY_BYTES="300000000")
    crash = hostile_rig.drop("crash.png", attack("segmentation fault"))
    hog = hostile_rig.drop("hog.png", attack("exhaust memory"))
    good = hostile_rig.drop("good.png", png())
    crashed, hogged, captioned = hostile_rig.wait_settled([crash, hog, good])
    assert (crashed["error_code"], crashed["attempts"], crashed["lost_attempts"]) == ("decoder_crashed", 1, 0)
    assert "signal 11" in crashed["error"]
    assert (hogged["error_code"], hogged["attempts"]) == ("out_of_memory", 1)
    assert captioned["status"] == "captioned"
    assert worker.wait_for_line("decoder_sandbox", 60)


def test_43_large_images_are_captioned_in_turn_by_a_worker_with_little_memory(rig: Rig) -> None:
    """Two images above the share and an ordinary one arrive at once; each needs one attempt."""
    ids = [rig.drop(f"{n}.png", png((n, 2, 3), (7000, 6000))) for n in range(2)] + [rig.drop("good.png", png())]
    worker = rig.worker(
        DROPLINE_WORKER__CONCURRENCY="4",
        DROPLINE_WORKER__MEMORY_BYTES="3450000000",
        DROPLINE_IMAGES__DECODE_TIMEOUT_S="90",
    )
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["attempts"]) for row in rows} == {("captioned", 1)}
    assert worker.log_path.read_text().count('"large_image"') == 2


def test_43_a_worker_that_does_not_fit_does_not_start() -> None:
    """The log has the sum, the limit and the settings; no server is needed to find out."""
    done = subprocess.run(
        [sys.executable, "-m", "worker"],
        env={
            **os.environ,
            "PYTHONPATH": python_path(),
            "DROPLINE_WORKER__MEMORY_BYTES": "2000000000",
            "DROPLINE_WORKER__CONCURRENCY": "4",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    line = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, line["message"], line["code"]) == (1, "worker_not_started", "settings")
    assert "but has 2,000 MB (DROPLINE_WORKER__MEMORY_BYTES)" in line["error"]
    assert "DROPLINE_WORKER__CONCURRENCY (4)" in line["error"]
