"""`cloudbuild.yaml` against Cloud Build's schema, our own rules, the Dockerfile and Terraform."""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.container_rules import IMAGES
from tests.support.dockerfile import ROOT, read_dockerfile

FILE = ROOT / "cloudbuild.yaml"
TEXT = FILE.read_text()
#: Substitutions defined by Cloud Build.
BUILT_IN = {"PROJECT_ID"}
#: Build arguments defined by BuildKit.
BUILDER_ARGUMENTS = {"BUILDKIT_INLINE_CACHE"}


def broken(before: str, after: str) -> str:
    """The file with a single replacement."""
    assert before in TEXT
    return TEXT.replace(before, after)


def is_valid(schema: str, file: Path) -> bool:
    """True if a file follows a schema included in check-jsonschema."""
    program = Path(sys.executable).with_name("check-jsonschema")
    finished = subprocess.run([program, "--builtin-schema", f"vendor.{schema}", file], check=False, timeout=60)
    return finished.returncode == 0


def faults(text: str) -> Iterator[str]:
    """Yield the faults beyond the reach of the schema."""
    build: dict[str, Any] = yaml.safe_load(text)
    used = set(re.findall(r"\$\{(\w+)\}", text)) | set(re.findall(r"\$(\w+)", text))
    declared = build["substitutions"].keys()
    yield from (f"{name} is not declared" for name in used - declared - BUILT_IN)
    yield from (f"{name} is not used" for name in declared - used)
    if any("${" in value for value in build["substitutions"].values()) and not build["options"].get(
        "dynamicSubstitutions"
    ):
        yield "a substitution is made of others, but they are not dynamic"
    tags = [tag for step in build["steps"] for tag in flags(step, "tag")]
    if sorted(tags) != sorted(build["images"]):
        yield f"built {sorted(tags)}, pushed {sorted(build['images'])}"
    if build["options"].get("logging") != "CLOUD_LOGGING_ONLY":
        yield "a service account of one's own would need a bucket for logs"
    if int(build["timeout"].rstrip("s")) <= 600 or int(build["options"].get("diskSizeGb", 0)) < 100:
        yield "CUDA's libraries need more time and room"
    for step in build["steps"]:
        yield from _faults_of_step(step)


def _faults_of_step(step: dict[str, Any]) -> Iterator[str]:
    stages = read_dockerfile()
    (target,) = flags(step, "target")
    reachable = stages.inputs(target)
    known = stages.arguments.keys() | {
        name for stage in reachable for each in stages.stages[stage].all("ARG") for name in each.pairs
    }
    given = {value.partition("=")[0] for value in flags(step, "build-arg")}
    yield from (f"{target} takes no {name}" for name in given - known - BUILDER_ARGUMENTS)
    if any(not tag.startswith(f"${{_IMAGES}}/{target}:") for tag in flags(step, "tag")):
        yield f"the image of {target} has another's name"
    if not set(flags(step, "cache-from")) <= set(flags(step, "tag")):
        yield f"{target} takes layers from an image that nothing pushes"
    if step["args"][0] != "build" or step["args"][-1] != "." or "DOCKER_BUILDKIT=1" not in step["env"]:
        yield f"{target} is not built from here by BuildKit"


def flags(step: dict[str, Any], name: str) -> list[str]:
    """The values of a step's `--name=…`."""
    return [arg.removeprefix(f"--{name}=") for arg in step["args"] if arg.startswith(f"--{name}=")]


def test_it_follows_the_schema() -> None:
    """The file has known keys with values of the right type."""
    assert is_valid("cloudbuild", FILE)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("steps:", "stages:"),
        ("machineType: E2_HIGHCPU_8", "machineType: E2_HUGE_8"),
        ("logging: CLOUD_LOGGING_ONLY", "logging: NOWHERE"),
        ("    args:", "    arguments:"),
        ("timeout: 3600s", "timeout: [3600]"),
    ],
)
def test_the_schema_sees_it(tmp_path: Path, before: str, after: str) -> None:
    """The schema refuses an unknown key, and a value of a wrong type or outside the choices."""
    file = tmp_path / "cloudbuild.yaml"
    file.write_text(broken(before, after))
    assert not is_valid("cloudbuild", file)


def test_the_rules_hold() -> None:
    """Every substitution is declared and used, every built image is pushed, and every argument exists."""
    assert list(faults(TEXT)) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  _EXTRAS: worker\n", ""),
        ("  _EXTRAS: worker\n", "  _EXTRAS: worker\n  _OTHER: x\n"),
        ("dynamicSubstitutions: true", "dynamicSubstitutions: false"),
        ("images:\n  - ${_IMAGES}/function:${_VERSION}\n", "images:\n"),
        ("--tag=${_IMAGES}/worker:${_VERSION}", "--tag=${_IMAGES}/migrations:${_VERSION}"),
        ("--cache-from=${_IMAGES}/worker:cache", "--cache-from=${_IMAGES}/worker:latest"),
        ("--build-arg=EXTRAS=", "--build-arg=EXTRA="),
        ("logging: CLOUD_LOGGING_ONLY", "logging: LEGACY"),
        ("timeout: 3600s", "timeout: 600s"),
        ('diskSizeGb: "100"', 'diskSizeGb: "10"'),
        ("DOCKER_BUILDKIT=1", "DOCKER_BUILDKIT=0"),
    ],
)
def test_a_rule_sees_it(before: str, after: str) -> None:
    """Each rule reports a deliberate mistake."""
    assert list(faults(broken(before, after)))


def test_the_images_are_built() -> None:
    """The built images are the images that Terraform deploys, under the same names, and the gallery's."""
    build = yaml.safe_load(TEXT)
    assert {target for step in build["steps"] for target in flags(step, "target")} == {*IMAGES}
    main = (ROOT / "terraform" / "main.tf").read_text()
    assert set(re.findall(r"\}/(\w+):\$\{var\.image_tag\}", main)) == {*IMAGES} - {"gallery"}
    assert build["substitutions"]["_IMAGES"] == "${_REGION}-docker.pkg.dev/${PROJECT_ID}/${_REPOSITORY}"


def test_everything_is_of_one_version() -> None:
    """By default both the build and the deployment have the version of the checkout."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    variables = (ROOT / "terraform" / "variables.tf").read_text()
    deployed = re.search(r'variable "image_tag" \{.*?default\s*=\s*"([^"]+)"', variables, re.DOTALL)
    assert deployed
    assert yaml.safe_load(TEXT)["substitutions"]["_VERSION"] == version == deployed[1]


def test_the_defaults_are_the_dockerfiles() -> None:
    """Cloud Build and a plain `docker build` make the same images, because the defaults are equal."""
    dockerfile = read_dockerfile()
    stage = dockerfile.stages["worker-packages"]
    defaults = dockerfile.arguments | {
        name: value for each in stage.all("ARG") for name, value in each.pairs.items()
    }
    substitutions = yaml.safe_load(TEXT)["substitutions"]
    assert {name: substitutions[f"_{name}"] for name in defaults} == defaults
