"""The Dockerfile against hadolint, our own rules, the settings, the pins and `pyproject.toml`."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from dropline.settings import DEFAULT_CHECKPOINT, DEFAULT_REVISION, EngineSettings
from tests.support import container_rules
from tests.support.container_build import context_entries
from tests.support.dockerfile import DOCKERFILE, ROOT, Instruction, read_dockerfile
from tools.pins import cuda_pins, names_in
from worker import health
from worker.engine.runtime import checkpoint

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
TEXT = DOCKERFILE.read_text()
WHEEL = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def hadolint(text: str) -> set[str]:
    """The broken hadolint rules of a Dockerfile; `!` if hadolint cannot parse the text."""
    program = Path(sys.executable).with_name("hadolint")
    finished = subprocess.run(
        [program, "--no-color", "-"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    rules = set(re.findall(r"\b(?:DL|SC)\d{4}\b", finished.stdout))
    return rules or ({"!"} if finished.returncode else set())


def broken(before: str, after: str) -> str:
    """The Dockerfile with a single replacement."""
    assert before in TEXT
    return TEXT.replace(before, after)


def test_hadolint_has_nothing_to_say() -> None:
    """Hadolint reports no rule, not even about style; only the versions of the compiler's packages are free."""
    assert hadolint(TEXT) == set()
    assert re.findall("hadolint.*", TEXT) == ["hadolint ignore=DL3008"]
    assert not list(ROOT.glob(".hadolint*"))


@pytest.mark.parametrize(
    ("before", "after", "rule"),
    [
        ("WORKDIR /build", "WORKDIR build", "DL3000"),
        ("USER 10001:10001", "USER root", "DL3002"),
        ("RUN touch", "RUN cd /tmp && touch", "DL3003"),
        ("RUN touch", "RUN sudo touch", "DL3004"),
        ("FROM ${PYTHON_IMAGE} AS runtime", "FROM python AS runtime", "DL3006"),
        ("FROM ${PYTHON_IMAGE} AS runtime", "FROM python:latest AS runtime", "DL3007"),
        ("RUN touch", "RUN apt-get update && apt-get install -y git && touch", "DL3008"),
        ("pip install --constraint constraints.txt hatchling", "pip install hatchling", "DL3013"),
        ("COPY pyproject.toml", "ADD pyproject.toml", "DL3020"),
        ('CMD ["python", "-m", "worker"]', "CMD python -m worker", "DL3025"),
        ("PIP_NO_CACHE_DIR=1 ", "", "DL3042"),
        ('"$(echo requirements/*.whl)[function]"', "$(echo requirements/*.whl)[function]", "SC2102"),
    ],
)
def test_hadolint_sees_it(before: str, after: str, rule: str) -> None:
    """Each relevant rule of hadolint is on, and reports a deliberate mistake."""
    assert rule in hadolint(broken(before, after))


@pytest.mark.parametrize("rule", container_rules.RULES, ids=lambda rule: rule.__name__)
def test_the_rules_hold(rule: Any) -> None:
    """The Dockerfile breaks no rule of our own."""
    assert list(rule(read_dockerfile())) == []


@pytest.mark.parametrize(
    ("rule", "before", "after"),
    [
        (
            container_rules.base_is_pinned,
            "PYTHON_IMAGE=python:3.11.16-slim-trixie",
            "PYTHON_IMAGE=python:3.11-slim",
        ),
        (container_rules.base_is_pinned, "FROM ${PYTHON_IMAGE} AS runtime", "FROM debian:13 AS runtime"),
        (container_rules.base_is_pinned, ":2.25.4@sha256:", "@sha256:"),
        (container_rules.base_is_pinned, "cloud-sql-proxy:2.25.4@sha256:88501f0a", "cloud-sql-proxy:2.25.4"),
        (container_rules.base_is_pinned, "FROM ${PYTHON_IMAGE} AS runtime", "FROM ${PROXY_IMAGE} AS runtime"),
        (container_rules.nobody_is_root, "USER 10001:10001", "USER dropline"),
        (container_rules.nobody_is_root, "USER 10001:10001", "USER 0:0"),
        (container_rules.nobody_is_root, "USER 10001:10001", ""),
        (container_rules.health_is_checked, "--timeout=15s ", ""),
        (container_rules.health_is_checked, "HEALTHCHECK NONE", ""),
        (container_rules.no_shell_is_process_1, 'CMD ["python", "-m", "worker"]', "CMD python -m worker"),
        (container_rules.no_shell_is_process_1, 'CMD ["gunicorn"', 'CMD ["sh", "-c", "gunicorn"'),
        (container_rules.no_shell_is_process_1, "HEALTHCHECK NONE", 'HEALTHCHECK NONE\nENTRYPOINT ["tini"]'),
        (container_rules.packages_are_pinned, "--constraint constraints.txt hatchling", "hatchling"),
        (container_rules.packages_are_pinned, "install --no-deps wheels", "install wheels"),
        (container_rules.packages_are_pinned, "RUN touch", "RUN curl -O https://example.com && touch"),
        (container_rules.images_are_lean, "EXPOSE 8080", "COPY . ."),
        (container_rules.images_are_lean, "EXPOSE 8080", "RUN pip install --no-deps dropline"),
        (container_rules.code_comes_last, "FROM worker-packages AS model", "FROM code AS model"),
        (container_rules.code_comes_last, "COPY pyproject.toml ./", "COPY . ."),
        (container_rules.nothing_secret_is_built_in, "ARG EXTRAS=worker", "ARG HF_TOKEN="),
    ],
)
def test_a_rule_sees_it(rule: Any, before: str, after: str) -> None:
    """Each rule of our own reports a deliberate mistake."""
    assert list(rule(read_dockerfile(broken(before, after))))


def test_the_model_is_the_default_one() -> None:
    """An image built without arguments has the checkpoint of a worker without settings."""
    arguments = read_dockerfile().arguments
    assert (arguments["CHECKPOINT"], arguments["REVISION"]) == (DEFAULT_CHECKPOINT, DEFAULT_REVISION)


def test_what_is_fetched_is_what_is_looked_for() -> None:
    """The build fetches the same files of a checkpoint as a worker with a network."""
    (run,) = read_dockerfile().stages["model"].all("RUN")
    assert re.findall(r"--include '(\S+)'", run.value) == checkpoint.FILES


def test_the_cuda_packages_belong_to_the_pinned_torch() -> None:
    """The CUDA pins are of the pinned torch, the Dockerfile's build and one CUDA; no package has two pins."""
    header, *pins = (ROOT / "constraints-cuda.txt").read_text().splitlines()
    constraints = (ROOT / "constraints.txt").read_text()
    torch = re.search(r"^torch==(\S+)$", constraints, re.MULTILINE)
    assert torch
    assert f"torch {torch[1]} " in header
    (index,) = [each.pairs["PIP_EXTRA_INDEX_URL"] for each in worker_arguments("PIP_EXTRA_INDEX_URL")]
    build = index.rpartition("/")[2]
    assert f"torch=={torch[1]}+{build}" in pins
    others = [pin for pin in pins if not pin.startswith("torch==")]
    assert "nvidia-cudnn-cu12" in names_in("\n".join(others))
    assert "triton" in names_in(constraints)
    assert not names_in("\n".join(others)) & names_in(constraints)
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9.]+", pin) for pin in others)
    assert not re.search(r"-cu(?!12\b)\d", "\n".join(pins))


def worker_arguments(name: str) -> list[Instruction]:
    """The declarations of a build argument of the worker's packages."""
    return [each for each in read_dockerfile().stages["worker-packages"].all("ARG") if name in each.pairs]


def test_the_default_build_is_for_the_driver_of_cloud_run() -> None:
    """The worker's image has torch for CUDA 12.6, and a version of torch without such a build is kept out."""
    (index,) = [each.pairs["PIP_EXTRA_INDEX_URL"] for each in worker_arguments("PIP_EXTRA_INDEX_URL")]
    (pins,) = [each.pairs["TORCH_CONSTRAINTS"] for each in worker_arguments("TORCH_CONSTRAINTS")]
    assert (index.rpartition("/")[2], pins) == ("cu126", "constraints-cuda.txt")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    (torch,) = {each for extra in extras.values() for each in map(Requirement, extra) if each.name == "torch"}
    assert torch.specifier.contains("2.14.9")
    assert not torch.specifier.contains("2.15.0")


def test_cuda_pins_leave_out_what_is_pinned_already() -> None:
    """Each remaining package has a line, by normalised name, under a header with the version of torch."""
    report = {
        "install": [
            {"metadata": {"name": name, "version": version}}
            for name, version in [("torch", "2.0+cu1"), ("Nvidia_NCCL.cu13", "2"), ("filelock", "3")]
        ]
    }
    header, *pins = cuda_pins(report, names_in("# a comment==1\ntorch==2.0\nfilelock==3\n"))
    assert "torch 2.0 " in header
    assert pins == ["nvidia-nccl-cu13==2", "torch==2.0+cu1"]


def test_the_builder_gets_what_the_wheel_is_made_from_and_nothing_else() -> None:
    """`.dockerignore` admits exactly the wheel's packages and the copied files; every admitted path exists."""
    copied = {
        word
        for stage in read_dockerfile().stages.values()
        for copy in stage.all("COPY")
        if not copy.flag("from")
        for word in copy.words[:-1]
    } - {"."}
    assert {*context_entries()} == {*WHEEL, *copied}
    assert all((ROOT / entry).exists() for entry in context_entries())
    assert "*" in (ROOT / ".dockerignore").read_text().splitlines()


def test_every_extra_is_one_of_the_distribution() -> None:
    """Each image installs existing extras, and the default of the worker's image is the extra `worker`."""
    used = set(re.findall(r"\*\.whl\)\[([\w,]+)\]", TEXT))
    assert used == {"function", "gallery", "function,flower"}
    assert read_dockerfile().stages["worker-packages"].all("ARG")[0].pairs == {"EXTRAS": "worker"}
    extras = {extra for each in used for extra in each.split(",")}
    assert extras | {"worker", "heic"} <= PYPROJECT["project"]["optional-dependencies"].keys()


def test_what_is_asked_for_by_name_is_asked_for_as_in_the_project() -> None:
    """The packages named for the local image have the version ranges of the extra `local`."""
    (run,) = read_dockerfile().stages["local-packages"].all("RUN")
    named = {str(Requirement(each)) for each in re.findall(r"'(\S+)'", run.value)}
    assert named
    assert named <= {str(Requirement(each)) for each in PYPROJECT["project"]["optional-dependencies"]["local"]}


def test_a_health_check_ends_before_it_is_cut_off() -> None:
    """The check's own timeout comes first, so a reason is reported; the start period covers the start timeout."""
    check = read_dockerfile().stages["worker"].last("HEALTHCHECK")
    assert check
    assert int(check.flag("timeout").rstrip("s")) > health._TIMEOUT_S
    assert int(check.flag("start-period").rstrip("s")) >= EngineSettings().start_timeout_s
