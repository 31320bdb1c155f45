"""Fixtures: an engine with the scripted model, which follows codes in the images."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.engines import running
from worker.engine.process import EngineProcess


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[EngineProcess]:
    """An engine with the scripted model, ready."""
    os.mkfifo(tmp_path / "reached")
    os.mkfifo(tmp_path / "go")
    with running("tests.support.scripted_engine", checkpoint=str(tmp_path), max_batch=16) as engine:
        yield engine
