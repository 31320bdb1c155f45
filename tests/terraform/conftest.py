"""Terraform with the stub provider; without Terraform the tests skip, but never in CI."""

import os
import shutil
from pathlib import Path

import pytest

from tests.terraform.workspace import (
    PROJECT,
    ROOT,
    Plan,
    Terraform,
    copy_sources,
    make_terraform,
    stub_python,
)

#: Variables of each example; all other variables have defaults.
EXAMPLES = {
    "minimal": {"project": PROJECT},
    "complete": {
        "project": PROJECT,
        "existing_bucket": "old-pictures",
        "worker_image": "europe-west4-docker.pkg.dev/drop-project/dropline/worker-large:0.1.0",
        "analysts": '{ana="ana@example.com", reports="reports@drop-project.iam.gserviceaccount.com"}',
        "on_call": "oncall@example.com",
        "billing_account": "000000-111111-222222",
    },
}


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The command `terraform`; needs no network after the stub's environment is installed."""
    executable = shutil.which("terraform")
    if executable is None:
        message = "terraform is not installed: the checks of terraform/ need version 1.9 or newer on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    python = stub_python(ROOT / ".local")
    return make_terraform(executable, python, tmp_path_factory.mktemp("terraform"))


@pytest.fixture(scope="session")
def sources(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `terraform/` with both examples initialised. Tests change only further copies."""
    target = copy_sources(tmp_path_factory.mktemp("sources") / "terraform")
    for name in EXAMPLES:
        terraform.init(target / "examples" / name)
    return target


@pytest.fixture(scope="session")
def plans(terraform: Terraform, sources: Path) -> dict[str, Plan]:
    """The plans of both examples, with all values known."""
    return {name: terraform.plan(sources / "examples" / name, variables) for name, variables in EXAMPLES.items()}


@pytest.fixture(params=EXAMPLES)
def plan(request: pytest.FixtureRequest, plans: dict[str, Plan]) -> Plan:
    """Each example's plan in turn."""
    return plans[request.param]
