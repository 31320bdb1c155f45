"""The extras of `pyproject.toml` cover the imports of each role's rooms, and every requirement is pinned."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
PINS = dict(
    line.split("==", 1) for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)

#: Room → extras with the room's imports, beside the dependencies of every role.
ROOMS = {
    "dropline": (),
    "dropline/broker": ("function",),
    "dropline/client": ("client",),
    "dropline/fetch": ("cli",),
    "dropline/images": ("worker", "heic"),
    "dropline/scaling": ("function",),
    "dropline/storage": ("cli", "worker"),
    "db": (),
    "operations": ("export",),
    "operations/cloud_check": ("cli",),
    "cli": (),
    "migrations": (),
    "trigger_fn": ("function",),
    "worker": ("worker", "heic"),
    "gallery": ("gallery",),
    "local_emulators": ("local",),
    "tests": ("dev",),
    "tools": ("dev",),
    "benchmarks": ("dev",),
}
#: Import name → distribution, if the two names differ.
DISTRIBUTIONS = {
    "google.api_core": "google-api-core",
    "google.auth": "google-auth",
    "google.cloud.storage": "google-cloud-storage",
    "google.oauth2": "google-auth",
    "google.protobuf": "protobuf",
    "google.cloud.pubsub_v1": "google-cloud-pubsub",
    "google.cloud": "google-cloud-pubsub",
    "google.pubsub_v1": "google-cloud-pubsub",
    "grpc": "grpcio",
    "jwt": "pyjwt",
    "PIL": "pillow",
    "yaml": "pyyaml",
    "multipart": "python-multipart",
    # The part of httpx2 that opens connections.
    "httpcore2": "httpx2",
    # Starlette and anyio are parts of FastAPI, and Werkzeug of Flask.
    "anyio": "fastapi",
    "starlette": "fastapi",
    "werkzeug": "flask",
    # Torch's builds for CUDA require the one Triton that fits them.
    "triton": "torch",
}
#: The only files with access to the environment beside the settings: each passes it to a child process.
HANDS_ON = {"dropline/images/decoder_link.py", "local_emulators/process.py", "worker/engine/process.py"}
#: A program with separate requirements and a separate environment (tests/terraform/requirements.txt).
APART = ROOT / "tests" / "terraform" / "stub_provider.py"


def files_of(room: str) -> list[Path]:
    """The room's files, without the packages inside the room that have a line of their own in `ROOMS`."""
    apart = [ROOT / other for other in ROOMS if other.startswith(f"{room}/")]
    files = (path for path in (ROOT / room).rglob("*.py") if path != APART)
    return sorted(path for path in files if not any(path.is_relative_to(other) for other in apart))


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def distribution_of(module: str) -> str | None:
    """The module's distribution, normalised; None for the standard library and for our own rooms."""
    top = module.partition(".")[0]
    if top in sys.stdlib_module_names or top in ROOMS:
        return None
    parents = (module.rsplit(".", count)[0] for count in range(module.count(".") + 1))
    known = next((DISTRIBUTIONS[name] for name in parents if name in DISTRIBUTIONS), top)
    return normalised(known)


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(*extras: str) -> set[str]:
    found = {normalised(Requirement(each).name) for each in PROJECT["dependencies"]}
    for requirement in (Requirement(each) for extra in extras for each in EXTRAS[extra]):
        own = requirement.name == PROJECT["name"]
        found |= declared(*requirement.extras) if own else {normalised(requirement.name)}
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_its_extras_name(room: str) -> None:
    """Every import of a room is a declared requirement, and not only a dependency of another package."""
    imported = {
        name for path in files_of(room) for module in imports_of(path) if (name := distribution_of(module))
    }
    assert imported <= declared(*ROOMS[room])


def test_drop_and_caption_run_with_the_extra_cli() -> None:
    """Every file of ours that the commands load imports only what the extra names; HEIC is an extra of its own."""
    files_loaded = "(getattr(each, '__file__', None) for each in sys.modules.values())"
    drawing = "dropline.images.annotate, dropline.images.decoder, dropline.storage.objects"
    modules = f"cli.caption, cli.drop, dropline.broker.queue, {drawing}"
    code = f"import sys, {modules}; print(*{files_loaded}, sep=chr(10))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    files = [
        path
        for path in map(Path, loaded.stdout.splitlines())
        if path.is_relative_to(ROOT) and ".venv" not in path.parts
    ]
    assert ROOT / "dropline" / "fetch" / "fetching.py" in files
    imported = {name for path in files for module in imports_of(path) if (name := distribution_of(module))}
    assert imported <= declared("cli", "heic")


def test_a_command_line_starts_without_the_large_libraries() -> None:
    """`dropline caption` of a file needs neither Celery nor the libraries of images."""
    large = {"celery", "kombu", "numpy", "PIL", "torch"}
    code = f"import sys, cli.caption; print(*sorted({large} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


@pytest.mark.parametrize(
    "requirement", sorted({*PROJECT["dependencies"], *(e for x in EXTRAS.values() for e in x)})
)
def test_what_is_required_is_pinned_within_its_range(requirement: str) -> None:
    """Each requirement has an exact version in `constraints.txt`, within the range of the requirement."""
    parsed = Requirement(requirement)
    if parsed.name == PROJECT["name"]:
        assert parsed.extras <= EXTRAS.keys()
    else:
        assert parsed.specifier.contains(PINS[normalised(parsed.name)], prereleases=True)


def test_every_role_has_an_extra_and_every_package_its_types() -> None:
    """Each role, the demo and the developers have an extra; each import package has `py.typed`."""
    assert {"function", "worker", "gallery", "cli", "local", "demo", "dev"} <= EXTRAS.keys()
    assert all((ROOT / package / "py.typed").exists() for package in _packages())


def test_only_the_settings_read_the_environment() -> None:
    """Only `dropline/settings.py` and the files of `HANDS_ON` read the environment."""
    readers = {
        path.relative_to(ROOT).as_posix()
        for package in _packages()
        for path in (ROOT / package).rglob("*.py")
        if {"environ", "getenv"} & _names(path)
    }
    assert readers - HANDS_ON == {"dropline/settings.py"}


def _names(path: Path) -> set[str]:
    """Every attribute of `os` and every imported name, such as in `os.environ` and `from os import getenv`."""
    tree = list(ast.walk(ast.parse(path.read_text())))
    imported = {alias.name for node in tree if isinstance(node, ast.ImportFrom) for alias in node.names}
    attributes = (node for node in tree if isinstance(node, ast.Attribute))
    return imported | {
        node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "os"
    }


def _packages() -> list[str]:
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    packages: list[str] = tool["hatch"]["build"]["targets"]["wheel"]["packages"]
    return packages
