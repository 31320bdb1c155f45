"""`dropline demo` as a process: the output and the exit code."""

import itertools
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.acceptance

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def demo(directory: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [
        sys.executable,
        "-m",
        "cli",
        "demo",
        "--dir",
        str(directory),
        "--port-base",
        "0",
        *arguments,
    ]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_the_demo_captions_its_samples_and_ends(state_directory: Path) -> None:
    """With `--exit` every sample gets the right caption, the queries show the captions, and the exit code is 0."""
    with demo(state_directory, "--exit") as process:
        output = process.communicate(timeout=500)[0]
    assert process.returncode == 0, output
    assert "8 of 8 samples have a caption, 8 of 8 captions are right." in output
    assert "recognizes only drawn circles, squares, triangles and stars" in output
    assert "websearch_to_tsquery" in output
    assert "│ <OD>" in output
    assert "orange circle" in output.partition("Boxes of <OD>")[2]


def test_the_demo_goes_on_until_ctrl_c(state_directory: Path) -> None:
    """The demo prints how to drop an image; Ctrl-C ends the demo and every service, with exit code 0."""
    with demo(state_directory, "--model", "stub") as process:
        assert process.stdout is not None
        output = "".join(itertools.takewhile("Ctrl-C stops everything.\n".__ne__, process.stdout))
        assert "8 of 8 samples have a caption." in output, output
        assert f"source {state_directory}/env" in output
        variables = (state_directory / "env").read_text()
        gallery = output.rstrip().rpartition(" ")[2]
        assert f"export DROPLINE_GALLERY_URL={gallery}\n" in variables
        assert requests.get(gallery, timeout=60).status_code == 200
        process.send_signal(signal.SIGINT)
        # The output ends once no process, not even a grandchild, has the pipe open.
        assert process.stdout.read() == "stopping …\n"
    assert process.returncode == 0
    assert not (state_directory / "env").exists()
