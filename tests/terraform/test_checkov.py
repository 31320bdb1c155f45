"""checkov, as a second opinion on security; `checkov.yaml` lists the skipped rules with reasons."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.terraform.workspace import HERE, ROOT, copy_sources, environment_python

REQUIREMENTS = HERE / "checkov-requirements.txt"


@pytest.fixture(scope="module")
def checkov() -> Path:
    """The program, in a separate environment: checkov pins many packages that Dropline uses too."""
    environment = ROOT / ".local" / "checkov"
    try:
        return environment_python(environment, REQUIREMENTS).with_name("checkov")
    except subprocess.CalledProcessError:
        shutil.rmtree(environment, ignore_errors=True)
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"checkov could not be installed from {REQUIREMENTS.relative_to(ROOT)}; is there a network?")


def findings(checkov: Path, sources: Path) -> subprocess.CompletedProcess[str]:
    """The report of checkov about a copy, made without requests to a server."""
    return subprocess.run(
        [
            str(checkov),
            "--directory",
            str(sources),
            "--config-file",
            str(HERE / "checkov.yaml"),
            "--skip-download",
        ],
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(sources)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_checkov_finds_nothing(checkov: Path, tmp_path: Path) -> None:
    """checkov reports no breach of the rules in force."""
    done = findings(checkov, copy_sources(tmp_path / "terraform"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_checkov_finds_what_is_wrong(checkov: Path, tmp_path: Path) -> None:
    """checkov reports a bucket that can be made public."""
    sources = copy_sources(tmp_path / "terraform")
    bucket = sources / "modules" / "storage" / "main.tf"
    bucket.write_text(bucket.read_text().replace('"enforced"', '"inherited"'))
    done = findings(checkov, sources)
    assert done.returncode == 1
    assert "CKV_GCP_114" in done.stdout
