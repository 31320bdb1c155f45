"""The download of a checkpoint from a hub: progress, broken transfers, the cache, and a hub that is away."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION, EngineSettings
from local_emulators.process import process_environment
from tests.support.fake_hub import Hub, open_hub
from worker.engine.runtime.checkpoint import find_checkpoint

DEADLINE_S = 300.0
#: The hub's client writes pieces of this size.
PIECE = 10 * 1024 * 1024
WEIGHTS = random.Random(7).randbytes(2 * PIECE + 1)
#: Nothing listens there.
AWAY = "http://127.0.0.1:1"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkpoint with weights of three pieces."""
    directory = tmp_path / "repository"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(WEIGHTS)
    return directory


def start(cache: Path, endpoint: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "worker.engine.runtime.download"],
        env=process_environment(HF_HOME=str(cache), HF_ENDPOINT=endpoint, HF_HUB_DISABLE_PROGRESS_BARS="1"),
        stdout=subprocess.PIPE,
        text=True,
    )


def run(cache: Path, endpoint: str) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the printed documents of a whole download."""
    with start(cache, endpoint) as process:
        output = process.communicate(timeout=DEADLINE_S)[0]
    return process.returncode, [json.loads(line) for line in output.splitlines()]


def interrupt(cache: Path, hub: Hub) -> None:
    """Break the connection after the first piece, and kill the process that tries again."""
    hub.breaks = [PIECE + 1, 0, 0]
    with start(cache, hub.url) as process:
        assert hub.ranges.get(timeout=DEADLINE_S) == PIECE
        process.kill()
        process.communicate()
    hub.breaks = []


def test_broken_and_killed_downloads_resume(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a broken connection and after a kill, a download continues; a full cache then needs no hub."""
    cache = tmp_path / "cache"
    with open_hub(DEFAULT_CHECKPOINT, DEFAULT_REVISION, repository) as hub:
        interrupt(cache, hub)
        code, documents = run(cache, hub.url)
        assert code == 0, documents
        assert hub.ranges.get_nowait() == PIECE
    assert documents[0] == {"done": 0, "total": len(WEIGHTS) + len("{}")}
    assert documents[1]["done"] == PIECE
    assert documents[-1]["done"] == documents[-1]["total"]
    assert run(cache, AWAY) == (0, [])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache / "hub"))
    directory = find_checkpoint(EngineSettings()).directory
    assert (directory / "model.safetensors").read_bytes() == WEIGHTS
    assert (directory / "config.json").read_text() == "{}"
    assert not list(cache.rglob("*.partial"))


def test_damaged_weights_are_not_kept(repository: Path, tmp_path: Path) -> None:
    """Bytes that do not have the hub's checksum are deleted, and the next download starts anew."""
    cache = tmp_path / "cache"
    with open_hub(DEFAULT_CHECKPOINT, DEFAULT_REVISION, repository) as hub:
        interrupt(cache, hub)
        (partial,) = cache.rglob("*.partial")
        partial.write_bytes(b"x" * PIECE)
        code, documents = run(cache, hub.url)
        assert code == 1
        assert "damaged" in documents[-1]["error"]
        assert run(cache, hub.url)[0] == 0


def test_a_hub_that_is_away_is_one_line(tmp_path: Path) -> None:
    """The error names the checkpoint, the reason and the ways out."""
    code, (document,) = run(tmp_path, AWAY)
    assert code == 1
    assert DEFAULT_CHECKPOINT in document["error"]
    assert "Connection refused" in document["error"]
    assert "DROPLINE_ENGINE__CHECKPOINT=demo" in document["error"]
    assert "\n" not in document["error"]
