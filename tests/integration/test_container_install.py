"""The commands of the Dockerfile, run in clean environments: installed packages and started programs."""

import contextlib
import json
import re
import shutil
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from local_emulators.ports import free_ports
from tests.support.container_build import ImageBuild
from tests.support.dockerfile import ROOT, read_dockerfile
from tools.pins import names_in

pytestmark = pytest.mark.acceptance

DEADLINE_S = 600.0
#: Packages that only a worker, a developer or a build needs, not the function or the migrations.
NOT_NEEDED = {
    *(
        "torch",
        "transformers",
        "numpy",
        "pillow",
        "google-cloud-storage",
        "google-cloud-pubsub",
        "huggingface-hub",
    ),
    *("pytest", "mypy", "ruff", "hatchling", "pip", "setuptools", "wheel"),
}
#: The gallery decodes images, and reads and writes objects.
GALLERY_NEEDS = {"numpy", "pillow", "google-cloud-storage"}
TORCH_REQUIRES = (
    *("filelock", "typing-extensions>=4.10.0", "setuptools>=77.0.3", "sympy>=1.13.3", "networkx>=2.5.1", "jinja2"),
    "fsspec>=0.8.5",
    "cuda-toolkit[nvrtc,cudart,cupti,cufft,curand,cusolver,cusparse,cublas,cufile,nvjitlink,nvtx]==12.6.3",
    *("cuda-bindings<13,>=12.9.4", "nvidia-cudnn-cu12==9.10.2.21", "nvidia-cusparselt-cu12==0.7.1"),
    *("nvidia-nccl-cu12==2.29.3", "nvidia-nvshmem-cu12==3.4.5", "triton==3.7.1"),
)
FUNCTION = {
    "DROPLINE_DATABASE__URL": "postgresql://user:password@127.0.0.1:1/dropline",
    "DROPLINE_BROKER__URL": "redis://127.0.0.1:1/0",
    "DROPLINE_PUSH__AUDIENCE": "https://function.example",
    "DROPLINE_PUSH__SERVICE_ACCOUNT": "pusher@project.iam.gserviceaccount.com",
}
GALLERY = {
    "DATABASE_URL": "postgresql://user:password@127.0.0.1:1/dropline",
    "DROPLINE_DATABASE__URL": "postgresql://user:password@127.0.0.1:1/dropline",
    "DROPLINE_BROKER__URL": "redis://127.0.0.1:1/0",
    "DROPLINE_BUCKET": "drops",
    "DROPLINE_EVENTS__BUCKETS": '["drops"]',
    "DROPLINE_GALLERY__TOKENS": json.dumps([f"first:read:{'0' * 64}"]),
    "STORAGE_EMULATOR_HOST": "http://127.0.0.1:1",
}

#: Starts the function like gunicorn, requests the health check, and reports the imported modules.
PROBE = """
import json, sys
import trigger_fn.main
imported = len(sys.modules)
from trigger_fn.wsgi import create
response = create().test_client().get("/healthz")
print(json.dumps({
    "file": trigger_fn.main.__file__,
    "imported": imported,
    "status": response.status_code,
    "modules": sorted({name.partition(".")[0] for name in sys.modules}),
}))
"""


@pytest.fixture(scope="module")
def images() -> Iterator[ImageBuild]:
    """Images without build arguments, built at the first use."""
    with tempfile.TemporaryDirectory(prefix="dropline-images-") as directory:
        yield ImageBuild(read_dockerfile(), Path(directory))


def run(images: ImageBuild, image: str, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an image, with a working directory outside any checkout."""
    home = images.enter(image) / "home"
    home.mkdir(exist_ok=True)
    variables = images.environment(image) | environment
    return subprocess.run(
        command, cwd=home, env=variables, capture_output=True, text=True, check=False, timeout=DEADLINE_S
    )


def output(finished: subprocess.CompletedProcess[str]) -> str:
    """Check that the command succeeded, and return the standard output."""
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def packages(images: ImageBuild, image: str) -> dict[str, str]:
    """The versions of the installed packages of an image, by normalised name."""
    target = str(images.enter(image) / "opt" / "dropline" / "bin" / "python")
    listed = output(run(images, image, "pip", "--python", target, "list", "--format=json"))
    return {
        each["name"].lower().replace("_", "-").replace(".", "-"): each["version"] for each in json.loads(listed)
    }


@pytest.mark.parametrize("image", ["function", "migrations", "gallery"])
def test_every_package_is_pinned_and_needed(images: ImageBuild, image: str) -> None:
    """Packages have the versions of `constraints.txt`; no dependency is missing, no unneeded one is installed."""
    found = packages(images, image)
    pins = (ROOT / "constraints.txt").read_text().splitlines()
    assert "dropline" in found
    assert not found.keys() & (NOT_NEEDED - GALLERY_NEEDS if image == "gallery" else NOT_NEEDED)
    assert {f"{name}=={version}" for name, version in found.items() if name != "dropline"} <= {*pins}
    target = str(images.enter(image) / "opt" / "dropline" / "bin" / "python")
    output(run(images, image, "pip", "--python", target, "check"))


@pytest.mark.parametrize("image", ["function", "migrations"])
def test_the_code_is_there_once_and_no_sources_are(images: ImageBuild, image: str) -> None:
    """The image has the installed wheel once, and no files of the build directory."""
    root = images.enter(image)
    assert len(list((root / "opt").rglob("trigger_fn/main.py"))) == 1
    assert not list((root / "build").iterdir())
    assert (root / "opt" / "dropline" / "bin" / "dropline").read_text().startswith("#!")


def test_the_function_starts_from_the_installed_distribution(images: ImageBuild) -> None:
    """The function imports few modules, none of them heavy, and from the image instead of a checkout."""
    report = json.loads(output(run(images, "function", "python", "-c", PROBE, **FUNCTION)))
    assert report["status"] == 200
    # A cold start is as long as its imports. Modules are counted, because no test asserts a time; today 1,150.
    assert report["imported"] < 1400
    assert Path(report["file"]).resolve().is_relative_to(images.enter("function").resolve())
    assert not set(report["modules"]) & {"torch", "transformers", "worker", "PIL", "numpy", "alembic", "typer"}


@pytest.mark.parametrize(
    ("image", "variable", "settings"),
    [("function", "PORT", FUNCTION), ("gallery", "DROPLINE_GALLERY__PORT", GALLERY)],
)
def test_the_command_serves_and_its_health_check_sees_it(
    images: ImageBuild, image: str, variable: str, settings: dict[str, str]
) -> None:
    """CMD listens on the port and ends on SIGTERM; the health check fails before the start and after the end."""
    stage = read_dockerfile().stages[image]
    command, check = stage.last("CMD"), stage.last("HEALTHCHECK")
    assert command
    assert check
    (port,) = free_ports(1)
    own = settings | {variable: str(port)}
    assert run(images, image, *check.command, **own).returncode != 0
    environment = images.environment(image) | own
    with subprocess.Popen(command.command, env=environment, cwd=images.enter(image) / "home") as server:
        try:
            wait_until_it_serves(server, port)
            assert run(images, image, *check.command, **own).returncode == 0
        finally:
            server.terminate()
        assert server.wait(DEADLINE_S) == 0
    assert run(images, image, *check.command, **own).returncode != 0


def wait_until_it_serves(server: "subprocess.Popen[bytes]", port: int) -> None:
    """Wait until the health check on the server's port responds with 200."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        with contextlib.closing(HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)) as line:
            try:
                line.request("GET", "/healthz")
                assert line.getresponse().status == 200
            except ConnectionRefusedError:
                assert server.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            else:
                return


def test_the_functions_image_has_the_command_line(images: ImageBuild) -> None:
    """The image of the function has the command `dropline`, which the redrive job runs."""
    assert "Usage" in output(run(images, "function", "dropline", "--help"))


@pytest.mark.parametrize("name", ["function", "migrations"])
def test_the_images_of_the_jobs_have_the_proxy(images: ImageBuild, name: str) -> None:
    """The program that Terraform's jobs name is on the PATH, and so is the module that runs it."""
    found = shutil.which("cloud-sql-proxy", path=images.environment(name)["PATH"]) if images.enter(name) else None
    assert found == images.moved("/opt/dropline/bin/cloud-sql-proxy")
    assert "--startup" in output(run(images, name, "python", "-m", "db.with_proxy", "--help"))


def test_the_migrations_say_what_they_miss(images: ImageBuild) -> None:
    """CMD starts, and the error names the missing setting."""
    command = read_dockerfile().stages["migrations"].last("CMD")
    assert command
    finished = run(images, "migrations", *command.command)
    assert finished.returncode != 0
    assert "DROPLINE_DATABASE__URL is not set" in finished.stderr


@pytest.mark.parametrize(
    ("index", "constraints", "taken"),
    [
        ("https://index.example/whl/cu126", "constraints-cuda.txt", True),
        ("https://index.example/whl/cpu", "constraints.txt", True),
        ("", "constraints.txt", True),
        ("INDEX-FOR-CUDA-12.6", "constraints.txt", False),
        ("", "constraints-cuda.txt", False),
    ],
)
def test_an_index_that_is_none_stops_the_build(index: str, constraints: str, taken: bool) -> None:
    """A build with an invalid index fails; pip would only warn, and install a different torch."""
    check, _install = read_dockerfile().stages["worker-packages"].all("RUN")
    finished = subprocess.run(
        ["/bin/sh", "-euc", check.value],
        env={"PIP_EXTRA_INDEX_URL": index, "TORCH_CONSTRAINTS": constraints},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (finished.returncode == 0) is taken, finished.stderr
    assert taken or "give the address of an index" in finished.stderr


def standing_in_for_torch(directory: Path) -> Path:
    """A directory with an empty wheel of torch for CUDA 12.6, whose index cannot be reached here.

    The requirements are those of this build in public configurations; the wheel's own metadata was not read. The
    packages come from PyPI.
    """
    (torch,) = re.findall(r"^torch==(\S+)$", (ROOT / "constraints-cuda.txt").read_text(), re.MULTILINE)
    metadata = f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n"
    metadata += "".join(f"Requires-Dist: {each}\n" for each in TORCH_REQUIRES)
    info = f"torch-{torch}.dist-info"
    with zipfile.ZipFile(directory / f"torch-{torch}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", metadata)
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return directory


def test_the_worker_would_get_its_extra_at_the_pinned_versions(images: ImageBuild, tmp_path: Path) -> None:
    """The packages of the extra `worker` resolve to the pinned versions, with torch for CUDA 12.6 and not PyPI's.

    A dry run avoids installing torch, which is large.
    """
    _check_of_the_index, install = read_dockerfile().stages["worker-packages"].all("RUN")
    command = images.moved(install.value).replace(" install ", " install --dry-run --quiet --report report.json ")
    root = images.enter("build")
    build = root / "build"
    (build / "constraints-cuda.txt").write_text((ROOT / "constraints-cuda.txt").read_text())
    arguments = {
        "EXTRAS": "worker",
        "TORCH_CONSTRAINTS": "constraints-cuda.txt",
        "PIP_FIND_LINKS": str(standing_in_for_torch(tmp_path)),
    }
    finished = subprocess.run(
        ["/bin/sh", "-euc", command],
        cwd=build, env=images.environment("build") | arguments, capture_output=True, text=True, check=False,
        timeout=DEADLINE_S,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr
    chosen = {
        each["metadata"]["name"].lower().replace("_", "-"): each["metadata"]["version"]
        for each in json.loads((build / "report.json").read_text())["install"]
    }
    pins = [
        line
        for name in ("constraints.txt", "constraints-cuda.txt")
        for line in (ROOT / name).read_text().splitlines()
    ]
    assert {"torch", "transformers", "pillow", "google-cloud-storage", "celery"} <= chosen.keys()
    assert {f"{name}=={version}" for name, version in chosen.items() if name != "dropline"} <= {*pins}
    assert not chosen.keys() & (names_in("flask==\nfunctions-framework==\ngunicorn==\npytest==\nmypy==\ngrpcio=="))
