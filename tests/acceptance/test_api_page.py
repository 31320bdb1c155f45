"""docs/api.md: each snippet runs against the stack with the demo model, and prints what the page says."""

import doctest
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from dropline.client import asynchronous, plain
from tests.acceptance.conftest import DEADLINE_S, LocalCloud
from tests.support.pages import ROOT, Code, code_of

pytestmark = pytest.mark.acceptance

_PAGE = (ROOT / "docs" / "api.md").read_text()
_ON_THE_PAGE = "http://127.0.0.1:18406"
_BLOCKS = [code for code in code_of(_PAGE) if not code.inline]
_SNIPPETS = [code for code in _BLOCKS if code.language in {"python", "sh"}]
#: The output below a snippet.
_OUTPUTS = {snippet.body: text.body for snippet, text in pairwise(_BLOCKS) if text.language == "text"}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with photo.jpg, a picture of the demo."""
    shutil.copy(ROOT / "local_emulators" / "samples" / "purple-star.png", tmp_path / "photo.jpg")
    return tmp_path


@pytest.mark.parametrize("snippet", _SNIPPETS, ids=range(len(_SNIPPETS)))
def test_a_snippet_prints_what_the_page_says(cloud: LocalCloud, place: Path, snippet: Code) -> None:
    """Each block of Python or of a shell; the two one-liners print the caption."""
    command = [sys.executable, "-c"] if snippet.language == "python" else ["bash", "-euc"]
    program = snippet.body.replace(_ON_THE_PAGE, cloud.environment["DROPLINE_GALLERY_URL"])
    environment = cloud.environment | {"PYTHONPATH": str(ROOT)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    run = subprocess.run(
        [*command, program],
        cwd=place,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    if snippet.body in _OUTPUTS:
        assert run.stdout == _OUTPUTS[snippet.body]
    else:
        words = json.loads(run.stdout)["caption"] if run.stdout.startswith("{") else run.stdout.strip()
        assert words == "a purple star"


def test_every_output_of_the_page_belongs_to_a_snippet() -> None:
    """No output stands alone."""
    assert sum(block.language == "text" for block in _BLOCKS) == len(_OUTPUTS)
    assert len(_SNIPPETS) >= 8


def _examples() -> Iterator[doctest.DocTest]:
    for module in (plain, asynchronous):
        yield from (each for each in doctest.DocTestFinder(exclude_empty=True).find(module) if each.examples)


def test_the_examples_of_docstrings(cloud: LocalCloud, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both clients have an example, which runs."""
    monkeypatch.chdir(place)
    runner = doctest.DocTestRunner()
    found = list(_examples())
    for test in found:
        for example in test.examples:
            example.source = example.source.replace(_ON_THE_PAGE, cloud.environment["DROPLINE_GALLERY_URL"])
        assert runner.run(test).failed == 0
    assert {test.name.rpartition(".")[2] for test in found} == {"Client", "AsyncClient"}
