"""Terraform with the stub provider; without Terraform the tests skip, but never in CI."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.terraform.workspace import (
    PROJECT,
    ROOT,
    Plan,
    Terraform,
    copy_sources,
    knowing_providers,
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
    "existing": {
        "project": PROJECT,
        "host_project": "host-project",
        "network": "shared",
        "subnetwork": "dropline-europe-west4",
        "postgres": "data-project:europe-west4:main",
        "redis_url_secret": "projects/data-project/secrets/redis-url",
        "redis_certificate_secret": "projects/data-project/secrets/redis-ca",
        "data_project": "data-project",
        "buckets": '["their-pictures", "their-scans"]',
    },
    "cpu": {"project": PROJECT},
}

#: The secrets of the existing Redis in the example `existing`, as its owner has to make them.
GIVEN_SECRETS = {
    "projects/data-project/secrets/redis-url": (
        "rediss://:word@10.1.2.3:6378/0?ssl_cert_reqs=required&ssl_ca_certs=/etc/dropline/redis/ca.pem"
        "&ssl_check_hostname=false"
    ),
    "projects/data-project/secrets/redis-ca": "their certificate authority",
}


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terraform]:
    """The command `terraform`; needs no network after the stub's environment is installed."""
    executable = shutil.which("terraform")
    if executable is None:
        message = "terraform is not installed: the checks of terraform/ need version 1.9 or newer on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    python = stub_python(ROOT / ".local")
    directory = tmp_path_factory.mktemp("terraform")
    with knowing_providers(python, directory) as knowing:
        yield replace(make_terraform(executable, python, directory), knowing=knowing)


@pytest.fixture(scope="session")
def sources(terraform: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `terraform/` with all examples initialised and begun. Tests change only further copies."""
    target = copy_sources(tmp_path_factory.mktemp("sources") / "terraform")
    for name, variables in EXAMPLES.items():
        terraform.init(target / "examples" / name)
        terraform.start(target / "examples" / name, variables)
    return target


@pytest.fixture(scope="session")
def plans(terraform: Terraform, sources: Path) -> dict[str, Plan]:
    """The plans of all examples, with all values known."""
    return {name: terraform.plan(sources / "examples" / name, variables) for name, variables in EXAMPLES.items()}


@pytest.fixture(params=EXAMPLES)
def plan(request: pytest.FixtureRequest, plans: dict[str, Plan]) -> Plan:
    """Each example's plan in turn."""
    return plans[request.param]
