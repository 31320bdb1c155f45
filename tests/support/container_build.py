"""Builds a stage of the Dockerfile without a container engine: the stage's commands run in ordinary directories.

The base image is a fresh virtual environment of the running Python. The RUN instructions of runtime stages are
left out, because these instructions make an account and check the model. A file copied from a stage without
instructions, which is another image, is an empty one.
"""

import os
import shutil
import subprocess
import venv
from pathlib import Path

from local_emulators.process import process_environment
from tests.support.dockerfile import ROOT, Dockerfile, Instruction, Stage

_DEADLINE_S = 900.0
#: The directories named by the Dockerfile. Processes reach the directories through a link to a stage's file
#: system, so a path means the same in all stages, as in an image.
_PLACES = ("opt/dropline", "opt/models", "build")


class ImageBuild:
    """Builds each stage once."""

    def __init__(self, dockerfile: Dockerfile, directory: Path, arguments: dict[str, str] | None = None) -> None:
        """Make the base image, and no stage yet.

        Args:
            dockerfile: the Dockerfile to build.
            directory: an empty directory.
            arguments: build arguments, beside the defaults.
        """
        self._dockerfile = dockerfile
        self._directory = directory
        self._arguments = dockerfile.arguments | (arguments or {})
        self._link = directory / "image"
        self._base = directory / "base-image"
        venv.create(self._base, with_pip=True)

    def build(self, name: str) -> Path:
        """Build a stage and all stages needed; return the stage's file system."""
        root = self._directory / "stages" / name
        if not root.exists():
            stage = self._dockerfile.stages[name]
            for other in self._dockerfile.inputs(name) - {name}:
                self.build(other)
            self._make(stage, root)
        return root

    def enter(self, name: str) -> Path:
        """Build a stage, let `moved` and `environment` refer to the stage, and return the file system."""
        root = self.build(name)
        self._point_to(root)
        return root

    def moved(self, text: str) -> str:
        """Replace the image's paths in a text by paths of the machine."""
        for place in _PLACES:
            text = text.replace(f"/{place}", str(self._link / place))
        return text

    def environment(self, name: str) -> dict[str, str]:
        """The environment of a process of the stage."""
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
                if len(self._dockerfile.stages[other].own) == 1:
                    destination.touch(mode=0o755)
                    continue
                shutil.copytree(origin, destination, symlinks=True, dirs_exist_ok=True)
            else:
                _copy_from_context(source, destination)


def context_entries() -> list[str]:
    """The top-level entries of the repository that `.dockerignore` lets through."""
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
