"""The import contracts of `pyproject.toml`: complete, in the docs, and each contract able to fail."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINTER: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
ROOMS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "tests")
#: Google's storage library; import-linter sees only `google`, the shared name of Google's distributions.
STORAGE_LIBRARY = re.compile(r"^google\.cloud\.storage\b")


def contract(name: str) -> dict[str, Any]:
    return next(each for each in LINTER["contracts"] if each["name"] == name)


def rooms_in_docs() -> list[str]:
    """First column of the table of rooms: `room/` or `room/package/`."""
    page = (ROOT / "docs" / "how-it-works.md").read_text()
    return re.findall(r"^\| `([\w/]+)/` \|", page.split("## Rooms", 1)[1], re.MULTILINE)


def test_every_room_is_under_the_contract_of_layers() -> None:
    """Every top-level package has a layer."""
    layers = contract("Every arrow between rooms runs down")["layers"]
    assert sorted(re.findall(r"\w+", " ".join(layers))) == ROOMS == sorted(LINTER["root_packages"])


def test_every_room_and_every_package_of_dropline_is_in_the_docs() -> None:
    """The table of rooms lists all top-level packages, and the packages inside `dropline`."""
    inside = [f"dropline/{path.parent.name}" for path in (ROOT / "dropline").glob("*/__init__.py")]
    assert {*ROOMS, *inside, "worker/engine", "worker/engine/runtime"} == set(rooms_in_docs())


@pytest.mark.parametrize("name", [each["name"] for each in LINTER["contracts"] if each["name"].startswith("Only")])
def test_a_library_contract_names_every_room_but_those_in_its_title(name: str) -> None:
    """Sources are whole packages; the title names each exempt room; benchmarks and tools are always exempt."""
    named = {
        "the engine's runtime": set(),
        "db": {"db"},
        "migrations": {"migrations"},
        "the local stack": {"local_emulators"},
        "the worker": {"worker"},
        "the gallery": {"gallery"},
        "the function": {"trigger_fn", "local_emulators"},
        "the command line": {"cli", "local_emulators"},
    }
    exempt = set().union(*(rooms for words, rooms in named.items() if words in name))
    sources = set(contract(name)["source_modules"])
    assert all("." not in source for source in sources)
    assert sources >= {*ROOMS} - {"benchmarks", "tools"} - exempt


#: A forbidden import for each contract, as (contract, file, import).
BREAKS = [
    ("Every arrow between rooms runs down", "db/session.py", "import operations"),
    ("Every arrow between rooms runs down", "trigger_fn/events.py", "import worker.retry"),
    ("Every arrow between rooms runs down", "dropline/contract.py", "import cli"),
    ("The local stack runs the other rooms as processes", "local_emulators/stack.py", "import db.models"),
    (
        "Inside dropline, the packages stand beside each other",
        "dropline/images/__init__.py",
        "import dropline.storage",
    ),
    ("Inside dropline, the packages stand beside each other", "dropline/errors.py", "import dropline.settings"),
    ("The engine reads no queue, database or cloud", "worker/engine/wire.py", "import db.models"),
    ("The engine reads no queue, database or cloud", "worker/engine/slot.py", "import celery"),
    ("Children and parent of the engine never import", "worker/pipeline.py", "import worker.engine.runtime.model"),
    ("The function decodes no image", "trigger_fn/events.py", "import dropline.images.formats"),
    ("The database's rooms reach Postgres alone", "db/reads.py", "import dropline.broker.lengths"),
    ("The database's rooms reach Postgres alone", "migrations/run.py", "import operations"),
    ("Inside dropline, only the packages import numpy", "dropline/settings.py", "import numpy"),
    ("Only the engine's runtime imports torch", "worker/engine/wire.py", "import torch"),
    ("Only db and migrations import SQLAlchemy", "local_emulators/stack.py", "import sqlalchemy"),
    ("Only db, migrations and the local stack import psycopg", "trigger_fn/events.py", "import psycopg"),
    ("Only migrations imports Alembic", "db/session.py", "import alembic"),
    ("Only dropline.broker and the worker import Celery", "operations/__init__.py", "import celery"),
    ("Only dropline.broker, dropline.scaling and the local stack import redis", "db/session.py", "import redis"),
    ("Only dropline.images imports Pillow", "worker/retry.py", "import PIL"),
    ("Only the function imports functions-framework", "worker/retry.py", "import flask"),
    ("Only the gallery imports FastAPI", "worker/health.py", "import uvicorn"),
    ("Only dropline.client and dropline.fetch import httpx2", "worker/health.py", "import httpx2"),
    ("Only dropline.client and dropline.fetch import httpx2", "dropline/log.py", "import httpcore2"),
    ("The client reads no settings", "dropline/client/flows.py", "import dropline.settings"),
    ("Only the command line imports Typer", "operations/__init__.py", "import rich"),
]


def test_each_contract_is_broken_once_below() -> None:
    """Every contract has a breaking import."""
    assert all(any(each["name"].startswith(name) for name, _, _ in BREAKS) for each in LINTER["contracts"])


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The linter's report on a copy of the code with all forbidden imports."""
    copy = tmp_path_factory.mktemp("rooms")
    for room in ROOMS:
        shutil.copytree(ROOT / room, copy / room, ignore=_all_but_python)
    shutil.copy(ROOT / "pyproject.toml", copy)
    for _, file, statement in BREAKS:
        with (copy / file).open("a") as source:
            source.write(f"\n{statement}\n")
    run = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1, run.stderr
    return run.stdout.partition("Broken contracts\n")[2]


@pytest.mark.parametrize(("name", "file", "statement"), BREAKS)
def test_a_forbidden_import_breaks_its_contract(broken: str, name: str, file: str, statement: str) -> None:
    """The report lists the forbidden import under the broken contract."""
    importer = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    imported = statement.removeprefix("import ")
    section = next(text for title, text in _sections(broken) if title.startswith(name))
    assert re.search(rf"{re.escape(importer)} -> {re.escape(imported)} \(", section)


def _sections(report: str) -> list[tuple[str, str]]:
    """Title and text of each broken contract: titles are underlined."""
    parts = re.split(r"^(.+)\n-+\n", report, flags=re.MULTILINE)[1:]
    return list(zip(parts[::2], parts[1::2], strict=True))


def _all_but_python(directory: str, names: list[str]) -> set[str]:
    return {name for name in names if (Path(directory) / name).is_file() and not name.endswith(".py")}


def test_only_dropline_storage_imports_the_storage_library() -> None:
    """Imports are read from the code, because Google's namespace package hides the library from the contracts."""
    importers = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        if room not in {"benchmarks", "tools"}
        for path in (ROOT / room).rglob("*.py")
        if any(STORAGE_LIBRARY.match(name) for name in _imported(path))
    }
    assert importers
    assert all(path.startswith("dropline/storage/") for path in importers)


def _imported(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names
