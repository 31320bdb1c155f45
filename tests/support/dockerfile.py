"""The Dockerfile, read: stages, what they inherit, and what they would do."""

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
    """One instruction, as written, its lines joined."""

    #: In capitals.
    name: str
    value: str

    @property
    def pairs(self) -> dict[str, str]:
        """What an ENV or ARG sets, variables not expanded."""
        return {word.partition("=")[0]: word.partition("=")[2] for word in shlex.split(self.value)}

    @property
    def words(self) -> list[str]:
        """Its arguments without flags."""
        return [word for word in self.value.split() if not word.startswith("--")]

    def flag(self, name: str) -> str:
        """The value of `--name=…`; empty where it is not given."""
        found = re.search(rf"--{name}=(\S+)", self.value)
        return found[1] if found else ""

    @property
    def command(self) -> list[str]:
        """The exec form of a CMD, or of what follows the CMD of a HEALTHCHECK.

        Raises:
            ValueError: it is in shell form.
        """
        parsed: list[str] = json.loads(self.value[self.value.index("[") :] if "[" in self.value else self.value)
        return parsed


@dataclass(frozen=True)
class Stage:
    """A stage, and by `lineage` what it inherits."""

    name: str
    base: str
    own: tuple[Instruction, ...]
    #: From the base image on; the last one is this stage's.
    lineage: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction | None:
        """The instruction that counts, of those that override each other."""
        return next((each for each in reversed(self.lineage) if each.name == name), None)

    def all(self, name: str) -> list[Instruction]:
        """This stage's own instructions of a kind."""
        return [each for each in self.own if each.name == name]

    def environment(self, arguments: dict[str, str]) -> dict[str, str]:
        """What a container gets, with these build arguments."""
        found: dict[str, str] = {}
        for each in self.lineage:
            if each.name == "ENV":
                found |= {name: expand(value, arguments | found) for name, value in each.pairs.items()}
        return found


@dataclass(frozen=True)
class Dockerfile:
    """All stages, and the arguments before the first."""

    stages: dict[str, Stage]
    #: With their defaults.
    arguments: dict[str, str]

    def inputs(self, name: str) -> set[str]:
        """Every stage that building this one needs, itself included."""
        stage = self.stages[name]
        direct = {stage.base, *(each.flag("from") for each in stage.all("COPY"))} & self.stages.keys()
        return {name}.union(*(self.inputs(each) for each in direct))


def read_dockerfile(text: str | None = None) -> Dockerfile:
    """Parse the project's Dockerfile, or this one."""
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
