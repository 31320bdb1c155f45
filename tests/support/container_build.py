"""Builds a stage of the Dockerfile without an engine: its own commands, in directories that stand for the image's.

The base image is a fresh virtual environment of this Python. Left out are the RUNs of stages that run: they make
an account and check the model.
"""

import os
import shutil
import subprocess
import venv
from pathlib import Path

from local_emulators.process import process_environment
from tests.support.dockerfile import ROOT, Dockerfile, Instruction, Stage

_DEADLINE_S = 900.0
#: The directories that the Dockerfile names. In here they are reached through one link, which points to a stage's
#: file system: so a path means the same in all stages, as in an image.
_PLACES = ("opt/dropline", "opt/models", "build")


class ImageBuild:
    """Stages, built once each."""

    def __init__(self, dockerfile: Dockerfile, directory: Path, arguments: dict[str, str] | None = None) -> None:
        """Nothing is built yet.

        Args:
            dockerfile: what to build.
            directory: an empty one.
            arguments: build arguments, beside the defaults.
        """
        self._dockerfile = dockerfile
        self._directory = directory
        self._arguments = dockerfile.arguments | (arguments or {})
        self._link = directory / "image"
        self._base = directory / "base-image"
        venv.create(self._base, with_pip=True)

    def build(self, name: str) -> Path:
        """Do what the stage and all that it needs do; its file system."""
        root = self._directory / "stages" / name
        if not root.exists():
            stage = self._dockerfile.stages[name]
            for other in self._dockerfile.inputs(name) - {name}:
                self.build(other)
            self._make(stage, root)
        return root

    def enter(self, name: str) -> Path:
        """Build the stage and make it the one whose paths `moved` and `environment` give; its file system."""
        root = self.build(name)
        self._point_to(root)
        return root

    def moved(self, text: str) -> str:
        """The image's paths in this text as those of this machine."""
        for place in _PLACES:
            text = text.replace(f"/{place}", str(self._link / place))
        return text

    def environment(self, name: str) -> dict[str, str]:
        """What a process of the stage gets."""
        found = self._dockerfile.stages[name].environment(self._arguments)
        system = f"{self._base / 'bin'}{os.pathsep}{os.defpath}"
        path = os.pathsep.join(filter(None, (found.get("PATH", "").rstrip(":"), system)))
        inherited = process_environment()
        for variable in ("PYTHONPATH", "VIRTUAL_ENV"):
            inherited.pop(variable, None)
        return inherited | {key: self.moved(value) for key, value in (found | {"PATH": path}).items()}

    def _make(self, stage: Stage, root: Path) -> None:
        if stage.base in self._dockerfile.stages:
            shutil.copytree(self.build(stage.base), root, symlinks=True)
        for place in _PLACES:
            (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / "build").mkdir(exist_ok=True)
        self._point_to(root)
        runs = "runtime" in (stage.name, stage.base)
        for instruction in stage.own:
            if instruction.name == "COPY":
                self._copy(instruction, root)
            elif instruction.name == "RUN" and not runs:
                self._run(instruction, stage)

    def _point_to(self, root: Path) -> None:
        self._link.unlink(missing_ok=True)
        self._link.symlink_to(root)

    def _run(self, instruction: Instruction, stage: Stage) -> None:
        defaults = {name: value for each in stage.all("ARG") for name, value in each.pairs.items()}
        arguments = {name: self._arguments.get(name, default) for name, default in defaults.items()}
        finished = subprocess.run(
            ["/bin/sh", "-euc", self.moved(instruction.value)],
            cwd=self._link / "build",
            env=self.environment(stage.name) | arguments,
            capture_output=True,
            text=True,
            check=False,
            timeout=_DEADLINE_S,
        )
        assert finished.returncode == 0, f"RUN {instruction.value}\n{finished.stdout}\n{finished.stderr}"

    def _copy(self, instruction: Instruction, root: Path) -> None:
        *sources, target = instruction.words
        destination = root / (target[1:] if target.startswith("/") else f"build/{target}")
        other = instruction.flag("from")
        for source in sources:
            if other:
                origin = self.build(other) / source[1:]
                shutil.copytree(origin, destination, symlinks=True, dirs_exist_ok=True)
            else:
                _copy_from_context(source, destination)


def context_entries() -> list[str]:
    """What `.dockerignore` lets through, at the top of the repository."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def _copy_from_context(source: str, destination: Path) -> None:
    for entry in context_entries() if source == "." else [source]:
        if entry not in context_entries():
            raise FileNotFoundError(f"COPY {entry}: .dockerignore keeps it from the builder")
        if (ROOT / entry).is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / entry, destination / entry, ignore=ignore, dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / entry, destination)
