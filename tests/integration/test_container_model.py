"""The model in the image of the worker: downloaded by the build, and found at a start without a hub."""

import stat
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION
from local_emulators.process import process_environment
from tests.support.dockerfile import ROOT, read_dockerfile
from tests.support.fake_hub import open_hub

DEADLINE_S = 300.0
DEMO = ROOT / "local_emulators" / "demo_model"
#: Files of a hub repository that no image needs.
EXTRA = ("pytorch_model.bin", ".gitattributes", "picture.jpg")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A checkpoint like the repository of a hub, with unneeded files."""
    directory = tmp_path / "repository"
    directory.mkdir()
    for file in DEMO.glob("*.*"):
        (directory / file.name).write_bytes(file.read_bytes())
    for name in EXTRA:
        (directory / name).write_bytes(b"of no use")
    return directory


def in_place_of_the_image(text: str, models: Path) -> str:
    """Replace the paths of the image with paths of this machine."""
    return text.replace("/opt/dropline", sys.prefix).replace("/opt/models", str(models))


def build_model(models: Path, arguments: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command of the stage `model`."""
    stage = read_dockerfile().stages["model"]
    (run,) = stage.all("RUN")
    variables = {name: in_place_of_the_image(value, models) for name, value in stage.environment({}).items()}
    variables.pop("PATH", None)
    return subprocess.run(
        ["/bin/sh", "-euc", in_place_of_the_image(run.value, models)],
        env=process_environment(**variables, **arguments),
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip


def look_for_model(models: Path, arguments: dict[str, str], **others: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the stage `worker`: find the checkpoint by the environment of the image."""
    return run_in_worker("find_checkpoint", models, arguments | others)


def run_in_worker(word: str, models: Path, arguments: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command of the stage `worker` that has the word, in the environment of the image."""
    stage = read_dockerfile().stages["worker"]
    (run,) = [each for each in stage.all("RUN") if word in each.value]
    variables = {
        name: in_place_of_the_image(value, models) for name, value in stage.environment(arguments).items()
    }
    variables["PATH"] = f"{sys.prefix}/bin:/usr/bin:/bin"
    return subprocess.run(
        ["/bin/sh", "-euc", run.value],
        env=process_environment(**(variables | arguments)),
        capture_output=True, text=True, check=False, timeout=DEADLINE_S,
    )  # fmt: skip


def test_the_hubs_model_is_baked_in_at_its_commit(repository: Path, tmp_path: Path) -> None:
    """The build downloads only needed files; a start finds name and commit without a request to the hub."""
    models = tmp_path / "models"
    arguments = {"CHECKPOINT": DEFAULT_CHECKPOINT, "REVISION": DEFAULT_REVISION}
    with open_hub(DEFAULT_CHECKPOINT, DEFAULT_REVISION, repository) as hub:
        built = build_model(models, arguments | {"HF_ENDPOINT": hub.url})
        assert built.returncode == 0, built.stderr
        asked = len(hub.requests)
        found = look_for_model(models, arguments, HF_ENDPOINT=hub.url)
        assert found.returncode == 0, found.stderr
        assert len(hub.requests) == asked
    assert f"name='{DEFAULT_CHECKPOINT}'" in found.stdout
    assert f"revision='{DEFAULT_REVISION}'" in found.stdout
    snapshot = models / f"models--{DEFAULT_CHECKPOINT.replace('/', '--')}" / "snapshots" / DEFAULT_REVISION
    assert {file.name for file in snapshot.iterdir()} == {
        *(file.name for file in DEMO.glob("*.json")),
        "model.safetensors",
    }
    assert all(path.stat().st_mode & stat.S_IROTH for path in models.rglob("*"))


def test_a_start_needs_no_right_to_write(repository: Path, tmp_path: Path) -> None:
    """A start finds the model in read-only directories, and adds no files: the image's account may only read."""
    models = tmp_path / "models"
    arguments = {"CHECKPOINT": "owner/model", "REVISION": "a" * 40}
    with open_hub("owner/model", "a" * 40, repository) as hub:
        built = build_model(models, arguments | {"HF_ENDPOINT": hub.url})
    assert built.returncode == 0, built.stderr
    before = sorted(str(path) for path in models.rglob("*"))
    for path in (models, *models.rglob("*")):
        if path.is_dir():
            path.chmod(0o555)
    found = look_for_model(models, arguments)
    assert "revision='" + "a" * 40 in found.stdout, found.stderr
    assert sorted(str(path) for path in models.rglob("*")) == before


def test_a_commit_that_the_hub_has_not_fails_the_build(repository: Path, tmp_path: Path) -> None:
    """A commit of another repository fails the build: another checkpoint needs a commit of its own."""
    arguments = {"CHECKPOINT": "owner/model", "REVISION": DEFAULT_REVISION}
    with open_hub("owner/model", "a" * 40, repository) as hub:
        built = build_model(tmp_path / "models", arguments | {"HF_ENDPOINT": hub.url})
    assert built.returncode != 0


def test_another_model_than_the_baked_one_fails_the_build(tmp_path: Path) -> None:
    """A missing model fails the build, because a start downloads no model."""
    models = tmp_path / "models"
    models.mkdir()
    found = look_for_model(models, {"CHECKPOINT": "owner/model", "REVISION": "a" * 40})
    assert found.returncode != 0
    assert "is not in the local cache" in found.stderr


def test_the_demo_model_needs_no_hub(tmp_path: Path) -> None:
    """The demo model is part of the wheel, and ignores the commit of the default checkpoint."""
    models = tmp_path / "models"
    arguments = {"CHECKPOINT": "demo", "REVISION": DEFAULT_REVISION}
    built = build_model(models, arguments | {"HF_ENDPOINT": "http://127.0.0.1:1"})
    assert built.returncode == 0, built.stderr
    assert not list(models.iterdir())
    assert "name='demo'" in look_for_model(models, arguments).stdout


@pytest.mark.skipif(
    find_spec("triton") is None, reason="Triton is not installed; for Linux, the extra `dev` has it"
)
@pytest.mark.parametrize(
    ("changed", "compiles"),
    [({}, True), ({"GPU_CAPABILITY": ""}, False), ({"CHECKPOINT": "none"}, False)],
    ids=["L4", "no GPU", "no model"],
)
def test_the_kernels_of_the_gpu_are_in_the_image(changed: dict[str, str], compiles: bool, tmp_path: Path) -> None:
    """For the checkpoint of the image; a build for no GPU, or without a model, has none."""
    kernels = tmp_path / "kernels"
    (capability,) = [
        each.pairs["GPU_CAPABILITY"]
        for each in read_dockerfile().stages["worker"].all("ARG")
        if "GPU_CAPABILITY" in each.pairs
    ]
    arguments = {
        "CHECKPOINT": "demo", "REVISION": DEFAULT_REVISION, "GPU_CAPABILITY": capability,
        "TRITON_CACHE_DIR": str(kernels), "DROPLINE_ENGINE__MAX_BATCH": "1",
    } | changed  # fmt: skip
    built = run_in_worker("precompile", tmp_path / "models", arguments)
    assert built.returncode == 0, built.stderr
    assert bool([*kernels.rglob("*.cubin")]) is compiles, built.stdout + built.stderr


def test_an_image_without_a_model_is_built(tmp_path: Path) -> None:
    """With the checkpoint `none`, no model is downloaded or checked; a setting names the directory at a start."""
    models = tmp_path / "models"
    arguments = {"CHECKPOINT": "none", "REVISION": DEFAULT_REVISION}
    assert build_model(models, arguments | {"HF_ENDPOINT": "http://127.0.0.1:1"}).returncode == 0
    assert look_for_model(models, arguments).returncode == 0
    named = look_for_model(models, arguments, CHECKPOINT="a directory", DROPLINE_ENGINE__CHECKPOINT=str(DEMO))
    assert f"name='{DEMO}'" in named.stdout, named.stderr
