"""The parsed Dockerfile: the stages with own and inherited instructions."""

import io
import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "Dockerfile"

_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


@dataclass(frozen=True)
class Instruction:
    """An instruction as written, with the lines joined."""

    #: In capitals.
    name: str
    value: str

    @property
    def pairs(self) -> dict[str, str]:
        """The variables of an ENV or ARG, with unexpanded values."""
        return {word.partition("=")[0]: word.partition("=")[2] for word in shlex.split(self.value)}

    @property
    def words(self) -> list[str]:
        """The arguments without flags."""
        return [word for word in self.value.split() if not word.startswith("--")]

    def flag(self, name: str) -> str:
        """The value of `--name=…`; empty without the flag."""
        found = re.search(rf"--{name}=(\S+)", self.value)
        return found[1] if found else ""

    @property
    def command(self) -> list[str]:
        """The exec form of a CMD, or of the command of a HEALTHCHECK.

        Raises:
            ValueError: the command is in shell form.
        """
        parsed: list[str] = json.loads(self.value[self.value.index("[") :] if "[" in self.value else self.value)
        return parsed


@dataclass(frozen=True)
class Stage:
    """A stage; `lineage` includes the inherited instructions."""

    name: str
    base: str
    own: tuple[Instruction, ...]
    #: All instructions from the base image on; the last instructions are the stage's own.
    lineage: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction | None:
        """The last instruction `name`, which overrides the earlier instructions."""
        return next((each for each in reversed(self.lineage) if each.name == name), None)

    def all(self, name: str) -> list[Instruction]:
        """The stage's own instructions `name`."""
        return [each for each in self.own if each.name == name]

    def environment(self, arguments: dict[str, str]) -> dict[str, str]:
        """The environment of a container, with the given build arguments."""
        found: dict[str, str] = {}
        for each in self.lineage:
            if each.name == "ENV":
                found |= {name: expand(value, arguments | found) for name, value in each.pairs.items()}
        return found


@dataclass(frozen=True)
class Dockerfile:
    """All stages, and the arguments before the first."""

    stages: dict[str, Stage]
    #: Build argument → default.
    arguments: dict[str, str]

    def inputs(self, name: str) -> set[str]:
        """All stages needed to build a stage, the stage itself included."""
        stage = self.stages[name]
        direct = {stage.base, *(each.flag("from") for each in stage.all("COPY"))} & self.stages.keys()
        return {name}.union(*(self.inputs(each) for each in direct))


def read_dockerfile(text: str | None = None) -> Dockerfile:
    """Parse the project's Dockerfile, or `text`."""
    parser = DockerfileParser(fileobj=io.BytesIO((text or DOCKERFILE.read_text()).encode()))
    stages: dict[str, Stage] = {}
    arguments: dict[str, str] = {}
    name, base = "", ""
    own: list[Instruction] = []
    for each in (Instruction(part["instruction"], part["value"]) for part in parser.structure):
        if each.name == "FROM":
            base, _, name = each.words
            own = []
        elif each.name == "ARG" and not name:
            arguments |= each.pairs
        if name and each.name != "COMMENT":
            own.append(each)
            inherited = stages[base].lineage if base in stages else ()
            stages[name] = Stage(name, base, tuple(own), (*inherited, *own))
    return Dockerfile(stages, arguments)


def expand(value: str, variables: dict[str, str]) -> str:
    """`$NAME` and `${NAME}` replaced, as the instructions other than RUN do."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], ""), value)
