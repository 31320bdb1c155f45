"""Copies of `terraform/` for planning, changing and applying, with the stub provider."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = ROOT / "terraform"
SCHEMA: dict[str, Any] = json.loads((HERE / "schema" / "google.json").read_text())
#: The version of each provider that the stub stands in for.
PROVIDERS: dict[str, str] = {
    path.stem: json.loads(path.read_text())["version"] for path in sorted((HERE / "schema").glob("*.json"))
}
PROJECT = "drop-project"

_CLI_CONFIG = """
disable_checkpoint = true
provider_installation {{
  filesystem_mirror {{
    path = {path}
  }}
}}
"""
#: A local state instead of the examples' bucket.
_LOCAL_STATE = 'terraform {\n  backend "local" {\n  }\n}\n'
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


class TerraformFailed(AssertionError):
    """Terraform failed; the message is Terraform's output."""


@dataclass(frozen=True)
class Resource:
    """A planned resource."""

    address: str
    type: str
    values: dict[str, Any]


class Plan:
    """The planned resources and outputs from `terraform show -json`, without the nesting of the modules."""

    def __init__(self, document: dict[str, Any]) -> None:
        planned = document["planned_values"]
        self.resources = list(_resources(planned["root_module"]))
        self.outputs: dict[str, Any] = {
            name: output.get("value") for name, output in planned.get("outputs", {}).items()
        }

    def of(self, *types: str) -> list[Resource]:
        """All resources of the given types, spelt without `google_`."""
        return [each for each in self.resources if each.type.removeprefix("google_") in types]

    def one(self, kind: str, suffix: str = "") -> dict[str, Any]:
        """The values of the only resource of a type with an address ending in `suffix`."""
        (found,) = [each for each in self.of(kind) if each.address.endswith(suffix)]
        return found.values


#: A function from a plan to a sentence for each breach.
Policy = Callable[[Plan], Iterator[str]]


def _resources(module: Mapping[str, Any]) -> Iterator[Resource]:
    for each in module.get("resources", []):
        if each["mode"] == "managed":
            yield Resource(each["address"], each["type"], each["values"])
    for child in module.get("child_modules", []):
        yield from _resources(child)


@dataclass(frozen=True)
class Terraform:
    """The command `terraform` with the stub provider."""

    #: Path of the command.
    executable: str
    #: Environment of every run, without credentials.
    environment: Mapping[str, str]
    #: Further environment of a plan whose values are to be known.
    knowing: Mapping[str, str] = field(default_factory=dict)

    def run(self, directory: Path, *arguments: str, **variables: str) -> str:
        """Run the command, and return the standard output.

        Raises:
            TerraformFailed: the command ended with an error.
        """
        done = subprocess.run(
            [self.executable, *arguments],
            cwd=directory,
            env={**self.environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TerraformFailed(f"terraform {' '.join(arguments)} in {directory}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def init(self, directory: Path) -> None:
        """Install the modules and the stub."""
        self.run(directory, "init", "-input=false", "-no-color")

    def start(self, directory: Path, variables: Mapping[str, str]) -> None:
        """Begin an apply: the services are on, and the project's number and the suffix are in the state."""
        arguments = [f"-var={name}={value}" for name, value in variables.items()]
        targets = [f"-target=module.dropline.terraform_data.{name}" for name in ("project_number", "suffix")]
        self.run(directory, "apply", "-auto-approve", "-input=false", "-no-color", *targets, *arguments)

    def plan(self, directory: Path, variables: Mapping[str, str], *, known: bool = True) -> Plan:
        """Plan from an empty state; or with `known` after `start`, the values that only Google knows made up."""
        path = directory / f"plan-{known}"
        arguments = [f"-var={name}={value}" for name, value in variables.items()]
        arguments += [] if known else [f"-state={directory / 'no-state'}"]
        stub = self.knowing if known else {}
        self.run(directory, "plan", "-input=false", "-no-color", f"-out={path}", *arguments, **stub)
        return Plan(json.loads(self.run(directory, "show", "-json", str(path), **stub)))


def copy_sources(target: Path) -> Path:
    """Copy `terraform/` with a local state, and without the leftovers of a developer's own runs."""
    shutil.copytree(SOURCES, target, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"))
    for example in (target / "examples").iterdir():
        (example / "backend_override.tf").write_text(_LOCAL_STATE)
    return target


def make_terraform(executable: str, python: Path, directory: Path) -> Terraform:
    """The command with a provider mirror in `directory`; the mirror holds the stub, run by `python`."""
    system = f"{platform.system().lower()}_{_ARCHITECTURES[platform.machine().lower()]}"
    mirror = directory / "mirror"
    for name, version in PROVIDERS.items():
        provider = mirror / "registry.terraform.io" / "hashicorp" / name / version / system
        provider.mkdir(parents=True)
        script = provider / f"terraform-provider-{name}_v{version}"
        script.write_text(f'#!/bin/sh\nexec "{python}" "{HERE / "stub_provider.py"}" {name}\n')
        script.chmod(0o755)
    config = directory / "terraform.rc"
    config.write_text(_CLI_CONFIG.format(path=json.dumps(str(mirror))))
    environment = {
        "PATH": os.environ.get("PATH", ""),
        # The stub keeps a certificate in the home directory.
        "HOME": str(directory),
        "TF_CLI_CONFIG_FILE": str(config),
        "TF_IN_AUTOMATION": "1",
        "CHECKPOINT_DISABLE": "1",
    }
    return Terraform(executable, environment)


@contextmanager
def knowing_providers(python: Path, directory: Path) -> Iterator[dict[str, str]]:
    """Run the stub once per provider for all plans with known values; yields the environment that Terraform needs.

    Otherwise Terraform starts each provider several times per plan, and the start takes longest.
    """
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(directory), "STUB_KNOWN": "1"}
    servers = [
        subprocess.Popen(
            [str(python), "-u", str(HERE / "stub_provider.py"), name, "--dev"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in PROVIDERS
    ]
    try:
        addresses: dict[str, Any] = {}
        for server in servers:
            assert server.stdout is not None
            line = next(line for line in server.stdout if "TF_REATTACH_PROVIDERS=" in line)
            addresses |= json.loads(line.partition("=")[2].strip().strip("'"))
        yield {"TF_REATTACH_PROVIDERS": json.dumps(addresses)}
    finally:
        for server in servers:
            server.kill()
            server.communicate()


def stub_python(cache: Path) -> Path:
    """The interpreter of the stub's environment; a missing environment is made first."""
    requirements = HERE / "requirements.txt"
    key = sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return environment_python(cache / f"terraform-stub-{key}", requirements)


def environment_python(environment: Path, requirements: Path) -> Path:
    """The interpreter of an environment with the pins; an unfinished environment is made again.

    Of several test processes one makes the environment, and the others wait.
    """
    python, finished = environment / "bin" / "python", environment / ".finished"
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _make_environment(environment, python, requirements, finished)
    return python


def _make_environment(environment: Path, python: Path, requirements: Path, finished: Path) -> None:
    if not finished.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "--requirement", str(requirements)], check=True, stderr=subprocess.DEVNULL)
        finished.touch()
