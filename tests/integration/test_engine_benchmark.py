"""The benchmarks of the model alone and of a whole worker, on the demo model: the figures come from real runs."""

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from benchmarks.end_to_end import measure_end_to_end
from benchmarks.uploads import photographs
from dropline.settings import EngineSettings
from tests.support.processes import linux_only


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks.engine", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_benchmark_prints_provenance_and_a_rate_for_each_batch_size() -> None:
    """At least one batch, even for zero seconds, of the engine and the other ways; images divided by seconds."""
    compare = ("--compare", "generate", "--compare", "predecessor")
    finished = run("--checkpoint", "demo", "--seconds", "0", "--batch", "2", "--batch", "1", *compare, "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert document["model"]["name"] == "demo"
    assert document["provenance"]["command"].startswith("python -m benchmarks.engine --checkpoint demo")
    assert [*document["batches"]] == ["1", "2"]
    assert {name: [*found] for name, found in document["references"].items()} == {
        "generate": ["1", "2"],
        "predecessor": ["1"],
    }
    assert all(rate > 0 for rate in document["matrix_product_gflops"].values())
    every = [document["batches"], *document["references"].values()]
    for batch, result in (pair for results in every for pair in results.items()):
        assert result["batches"] >= 1
        assert result["tokens"] > 1
        expected = int(batch) * result["batches"] / result["seconds"]
        assert result["images_per_second"] == pytest.approx(expected)


def test_an_unknown_checkpoint_is_an_error() -> None:
    """The reason on standard error, no figures, and exit status 1."""
    finished = run("--checkpoint", "no such thing", "--batch", "1")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "neither a directory, nor a hub name" in finished.stderr


@linux_only
@pytest.mark.timeout(900)
def test_a_whole_worker_is_measured_beside_its_engine() -> None:
    """The demo model captions a backlog; each part of its start took time."""
    images = list(photographs(4))
    found = measure_end_to_end("demo", EngineSettings(checkpoint="demo", device="cpu", max_batch=2), images, 2)
    assert (found.images, found.children) == (4, 2)
    assert found.share == pytest.approx(2 * found.images_per_s / sum(found.engine_per_s))
    parts = asdict(found.start)
    assert all(seconds > 0 for seconds in parts.values())
    assert sum(parts.values()) == pytest.approx(found.start.total_s)
    assert found.figures()[0].value == "demo"
