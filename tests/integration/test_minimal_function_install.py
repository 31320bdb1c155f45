"""The function's extra is all it needs, and brings no model."""

import json
import subprocess
import venv
from pathlib import Path

import pytest

from local_emulators.command import child_environment

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 600
NOT_NEEDED = {"torch", "transformers", "numpy", "pillow", "google-cloud-storage", "google-cloud-pubsub"}

#: Starts the function as gunicorn does, and asks whether it lives.
PROBE = """
import json, sys, time
began = time.process_time()
import trigger_fn.main
import_s = time.process_time() - began
from trigger_fn.wsgi import create
response = create().test_client().get("/healthz")
print(json.dumps({
    "file": trigger_fn.main.__file__,
    "import_s": import_s,
    "status": response.status_code,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


def run(*arguments: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that succeeds."""
    variables = child_environment(PIP_DISABLE_PIP_VERSION_CHECK="1", **environment)
    variables.pop("PYTHONPATH", None)
    finished = subprocess.run(
        arguments, cwd=cwd, env=variables, capture_output=True, text=True, timeout=DEADLINE_S, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with nothing but `dropline[function]`."""
    directory = tmp_path_factory.mktemp("function") / "venv"
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", ".[function]", "-c", "constraints.txt", cwd=ROOT)
    return python


@pytest.mark.acceptance
def test_no_model_is_installed(python: Path, tmp_path: Path) -> None:
    """Neither torch nor anything else that only a worker needs."""
    packages = json.loads(run(python, "-m", "pip", "list", "--format=json", cwd=tmp_path))
    names = {package["name"].lower() for package in packages}
    assert "dropline" in names
    assert not names & NOT_NEEDED


@pytest.mark.acceptance
def test_it_starts_from_the_installed_distribution(python: Path, tmp_path: Path) -> None:
    """All it imports is there within a second, and comes from the environment rather than from a checkout."""
    output = run(
        *(python, "-c", PROBE),
        cwd=tmp_path,
        DROPLINE_DATABASE__URL="postgresql://user:password@127.0.0.1:1/dropline",
        DROPLINE_BROKER__URL="redis://127.0.0.1:1/0",
        DROPLINE_PUSH__AUDIENCE="https://function.example",
        DROPLINE_PUSH__SERVICE_ACCOUNT="pusher@project.iam.gserviceaccount.com",
    )
    report = json.loads(output)
    assert report["status"] == 200
    # In processor time: what else this machine does is not the function's doing.
    assert report["import_s"] < 1.0
    assert Path(report["file"]).is_relative_to(python.parents[1])
    assert not set(report["modules"]) & {"torch", "transformers", "worker", "PIL", "numpy"}
