"""A real worker and files that attack its decoder: the decoder process runs the code that a file names."""

import json

import pytest

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
    ids = [hostile_rig.drop(f"{n}.png", attack("loop")) for n in range(4)]
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
