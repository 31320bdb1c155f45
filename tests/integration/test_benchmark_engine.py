"""The benchmark of the engine, on the demo model: its figures, their parts, and the plot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.engine_parts import PartClock
from worker.engine.runtime.network.form import Part, direct_form

COMMAND = [
    *(sys.executable, "-m", "benchmarks.engine", "--checkpoint", "demo", "--device", "cpu", "--seconds", "0"),
    *("--batch", "1", "--batch", "2", "--compare", "generate", "--parts"),
]


def test_the_engine_is_measured_beside_another_way_and_in_parts(tmp_path: Path) -> None:
    """Each batch has a rate; its parts are the three of the network, and the host; the plot is a PNG."""
    picture = tmp_path / "rates.png"
    finished = subprocess.run(
        [*COMMAND, "--json", "--plot", str(picture)], capture_output=True, text=True, check=False, timeout=300
    )
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    for rates in (document["batches"], document["references"]["generate"]):
        assert rates.keys() == {"1", "2"}
        assert all(each["images_per_second"] > 0 for each in rates.values())
    assert [each["batch"] for each in document["parts"]] == [1, 2]
    for parts in document["parts"]:
        assert parts["seconds"].keys() == {"vision", "encoder", "decoder"}
        assert min(*parts["seconds"].values(), parts["host"]) > 0
    with Image.open(picture) as image:
        assert image.format == "PNG"


def test_the_report_has_a_line_for_the_parts() -> None:
    """In milliseconds."""
    finished = subprocess.run(COMMAND, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr
    assert "parts of a batch of 2, one after the other | vision " in finished.stdout


def test_each_part_has_its_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that each work moves on."""
    now = [0.0]
    monkeypatch.setattr("benchmarks.engine_parts.time.perf_counter", lambda: now[0])
    clock = PartClock(direct_form(), torch.device("cpu"))

    def takes(seconds: float) -> None:
        now[0] += seconds

    vision = clock.form.capture_aside(Part.VISION, lambda: takes(4.0))
    token = clock.form.capture(Part.DECODER, lambda: takes(0.5))

    def batch() -> None:
        vision()
        takes(0.25)
        for _ in range(3):
            token()

    times = clock.measure(batch, batch=1, seconds=10.0)
    assert times.seconds == {"vision": 4.0, "encoder": 0.0, "decoder": 1.5}
    assert times.host == pytest.approx(0.25)
