"""Terraform's own checks without a cloud: style, types, plans, `terraform test`, and the order of resources."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.terraform.conftest import EXAMPLES
from tests.terraform.workspace import SOURCES, Terraform, TerraformFailed, copy_sources
from tools import terraform_pages

MODULES = sorted(path.name for path in (SOURCES / "modules").iterdir())
FILES = ("main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md")


def test_the_files_are_formatted(terraform: Terraform) -> None:
    """`terraform fmt` would change no file."""
    assert terraform.run(SOURCES, "fmt", "-check", "-recursive") == ""


@pytest.mark.parametrize(
    "directory", [".", *(f"modules/{name}" for name in MODULES), *(f"examples/{n}" for n in EXAMPLES)]
)
def test_each_module_has_the_same_files(directory: str) -> None:
    """Each module has main, variables, outputs, versions and a README."""
    assert [name for name in FILES if not (SOURCES / directory / name).exists()] == []


@pytest.mark.parametrize("page", terraform_pages.pages(SOURCES), ids=lambda page: str(page.relative_to(SOURCES)))
def test_each_readme_is_up_to_date(page: Path) -> None:
    """`make terraform-pages` would change no README."""
    assert page.read_text() == terraform_pages.page(page.parent, SOURCES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_is_valid(terraform: Terraform, sources: Path, example: str) -> None:
    """Arguments, blocks and types fit the real provider's schema."""
    found = json.loads(terraform.run(sources / "examples" / example, "validate", "-json"))
    assert found["valid"]
    assert found["diagnostics"] == []


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_first_plan_needs_nothing_that_only_google_knows(
    terraform: Terraform, sources: Path, example: str
) -> None:
    """No count and no key of a for_each waits for an apply."""
    plan = terraform.plan(sources / "examples" / example, EXAMPLES[example], known=False)
    assert plan.of("storage_notification")


@pytest.mark.parametrize("directory", [".", *(f"modules/{name}" for name in MODULES)])
def test_terraforms_own_tests_pass(terraform: Terraform, tmp_path: Path, directory: str) -> None:
    """`terraform test` passes in the root and in each module, and each directory has a test."""
    here = copy_sources(tmp_path / "terraform") / directory
    terraform.init(here)
    said = terraform.run(here, "test", "-no-color")
    assert re.search(r"\b[1-9]\d* passed, 0 failed", said)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("ack_deadline_seconds  ", "ack_deadline  ", "Unsupported argument"),
        ("  topic                      = google_pubsub_topic.objects.id\n", "", "Missing required argument"),
        ('= "${var.name}-push"', '= { push = "push" }', "Incorrect attribute value type"),
        ("  retry_policy {", "  retry_policy {\n  }\n  retry_policy {", "Too many retry_policy blocks"),
    ],
)
def test_the_stub_knows_the_real_schema(
    terraform: Terraform, tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    """The stub refuses a wrong name, a missing argument, a wrong type and a surplus block."""
    sources = copy_sources(tmp_path / "terraform")
    path = sources / "modules" / "events" / "main.tf"
    head, found, tail = path.read_text().partition('resource "google_pubsub_subscription" "push"')
    assert old in tail
    path.write_text(head + found + tail.replace(old, new, 1))
    example = sources / "examples" / "minimal"
    terraform.init(example)
    with pytest.raises(TerraformFailed, match=complaint):
        terraform.run(example, "validate", "-no-color")


@pytest.mark.parametrize("example", EXAMPLES)
def test_applying_and_destroying_go_in_order(
    terraform: Terraform, sources: Path, tmp_path: Path, example: str
) -> None:
    """No resource is used before creation or after deletion; a second plan is empty; Dropline can be made again.

    The project is new: nothing is read before its services are enabled. Google keeps names of what was deleted.
    The example `existing` makes fewer resources than the others; the order of the rest is the same.
    """
    state = f"-state={tmp_path / 'state'}"
    variables = [f"-var={name}={value}" for name, value in EXAMPLES[example].items()]
    options = ["-input=false", "-no-color", "-parallelism=4", state, *variables]
    directory = sources / "examples" / example
    log = tmp_path / "log"
    stub = {"STUB_LOG": str(log), "STUB_RESERVED": str(tmp_path / "reserved")}
    terraform.run(directory, "apply", "-auto-approve", *options, **stub)
    terraform.run(directory, "plan", "-detailed-exitcode", *options)
    terraform.run(directory, "destroy", "-auto-approve", *options, **stub)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    created = [name_of(line) for line in lines if line["action"] == "create"]
    deleted = [name_of(line) for line in lines if line["action"] == "delete"]
    assert sorted(created) == sorted(deleted)
    for first, then in ORDER:
        if example == "existing" and not (begin(created, first) and begin(created, then)):
            continue
        assert last(created, first) < created.index(next(each for each in created if each.startswith(then)))
        assert last(deleted, then) < deleted.index(next(each for each in deleted if each.startswith(first)))
    steps = [f"{line['action']} {name_of(line)}" for line in lines]
    enabled = last(steps, "create project_service ")
    assert [step for step in steps[:enabled] if step.startswith("read") and not step.startswith(READ_FIRST)] == []
    terraform.run(directory, "apply", "-auto-approve", *options, **stub)


#: Data sources that need no service that Terraform enables: the images were pushed before the first plan.
READ_FIRST = "read artifact_registry_docker_image"


#: Pairs of beginnings of names: all resources of the first come before any resource of the second.
ORDER = [
    ("project_service ", "time_sleep services"),
    *(
        ("time_sleep services", each)
        for each in (
            "pubsub",
            "secret",
            "redis",
            "sql",
            "storage",
            "compute",
            "service_account",
            "cloud",
            "project_iam",
            "logging",
            "project_service_identity",
        )
    ),
    ("service_networking_connection", "redis_instance"),
    ("service_networking_connection", "sql_database_instance"),
    ("sql_user", "cloud_run_v2_job migrations"),
    ("project_iam_member cloudsql", "time_sleep logins"),
    ("time_sleep logins", "cloud_run_v2_job migrations"),
    ("cloud_run_v2_job migrations", "cloud_run_v2_service "),
    ("cloud_run_v2_job migrations", "cloud_run_v2_job redrive"),
    ("cloud_run_v2_job migrations", "cloud_run_v2_worker_pool"),
    ("secret_manager_secret_version", "cloud_run_v2_service "),
    ("secret_manager_secret_iam_member", "time_sleep secrets"),
    ("time_sleep secrets", "cloud_run_v2_service "),
    ("time_sleep secrets", "cloud_run_v2_worker_pool"),
    ("storage_bucket_iam_member", "time_sleep objects"),
    ("time_sleep objects", "cloud_run_v2_worker_pool"),
    ("storage_bucket ", "storage_notification"),
    ("cloud_run_v2_service_iam_member", "pubsub_subscription push"),
    ("service_account_iam_member iam.serviceAccountOpenIdTokenCreator", "pubsub_subscription push"),
    ("pubsub_topic_iam_member dead-letters", "pubsub_subscription push"),
    ("pubsub_subscription ", "storage_notification"),
    ("pubsub_topic_iam_member objects", "time_sleep publishers"),
    ("time_sleep publishers", "storage_notification"),
    ("project_service_identity", "pubsub_topic_iam_member dead-letters"),
    ("project_service_identity", "pubsub_subscription_iam_member"),
    ("project_service_identity", "service_account_iam_member iam.serviceAccountOpenIdTokenCreator"),
    ("pubsub_subscription_iam_member", "storage_notification"),
]


def name_of(line: dict[str, dict[str, str]]) -> str:
    """`type name`, the name without the prefix of the deployment."""
    state = line["state"]
    named = state.get("topic") or state.get("role") if "iam" in str(line["type"]) else state.get("name")
    named = state.get("of", named)
    short = (named or "").rpartition("/")[2].removeprefix("dropline-").removeprefix("pictures-")
    return f"{str(line['type']).removeprefix('google_')} {short}"


def begin(names: list[str], beginning: str) -> bool:
    """Whether any name has the beginning."""
    return any(name.startswith(beginning) for name in names)


def last(names: list[str], beginning: str) -> int:
    """The index of the last name with the beginning."""
    return max(index for index, name in enumerate(names) if name.startswith(beginning))


def test_an_apply_leaves_the_number_of_workers_alone(terraform: Terraform, sources: Path, tmp_path: Path) -> None:
    """A plan does not undo a change of the number of workers between two applies."""
    state = tmp_path / "state"
    options = [
        "-input=false",
        "-no-color",
        f"-state={state}",
        *(f"-var={k}={v}" for k, v in EXAMPLES["minimal"].items()),
    ]
    directory = sources / "examples" / "minimal"
    terraform.run(directory, "apply", "-auto-approve", *options)
    text = state.read_text()
    assert text.count('"manual_instance_count": 0') == 1
    state.write_text(text.replace('"manual_instance_count": 0', '"manual_instance_count": 1'))
    terraform.run(directory, "plan", "-detailed-exitcode", *options)


def test_what_exists_keeps_its_name(terraform: Terraform, sources: Path, tmp_path: Path) -> None:
    """Another suffix, as after an upgrade from a version without one, replaces nothing: least of all Postgres."""
    variables = [f"-var={name}={value}" for name, value in EXAMPLES["minimal"].items()]
    options = ["-input=false", "-no-color", f"-state={tmp_path / 'state'}", *variables]
    directory = sources / "examples" / "minimal"
    terraform.run(directory, "apply", "-auto-approve", *options)
    suffix = "module.dropline.terraform_data.suffix"
    planned = terraform.run(directory, "plan", f"-replace={suffix}", *options)
    assert re.findall(r"^ +# (\S+) (?:will|must) be", planned, re.MULTILINE) == [suffix]


def test_migrations_run_when_something_of_them_changes(
    terraform: Terraform, sources: Path, tmp_path: Path
) -> None:
    """Another version recreates, and so runs, the migrations' job; a run of the job by hand leads to no change."""
    copy = tmp_path / "terraform"
    shutil.copytree(sources, copy, symlinks=True)
    state, log, directory = tmp_path / "state", tmp_path / "log", copy / "examples" / "minimal"
    variables = [f"-var={name}={value}" for name, value in EXAMPLES["minimal"].items()]
    options = ["-input=false", "-no-color", f"-state={state}", *variables]
    terraform.run(directory, "apply", "-auto-approve", *options)
    text = state.read_text()
    (token,) = re.findall(r'"run_execution_token": ("\w+")', text)
    state.write_text(text.replace(f'"run_execution_token": {token}', '"run_execution_token": null'))
    terraform.run(directory, "plan", "-detailed-exitcode", *options)
    main = directory / "main.tf"
    main.write_text(re.sub(r"(source\s+= .*\n)", r'\1  image_tag = "9.9.9"\n', main.read_text(), count=1))
    terraform.run(directory, "apply", "-auto-approve", *options, STUB_LOG=str(log))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    actions = [(each["action"], name_of(each)) for each in lines if each["action"] != "read"]
    assert actions == [("delete", "cloud_run_v2_job migrations"), ("create", "cloud_run_v2_job migrations")]
    (other,) = re.findall(r'"run_execution_token": ("\w+")', state.read_text())
    assert other != token


@pytest.mark.parametrize("image", ["function", "worker", "migrations"])
def test_a_tag_that_moved_shows_in_the_plan(
    terraform: Terraform, sources: Path, tmp_path: Path, image: str
) -> None:
    """An image that was pushed again under its tag is deployed by the next apply; migrations run again."""
    options = [
        "-input=false",
        "-no-color",
        f"-state={tmp_path / 'state'}",
        *(f"-var={k}={v}" for k, v in EXAMPLES["minimal"].items()),
    ]
    directory = sources / "examples" / "minimal"
    terraform.run(directory, "apply", "-auto-approve", *options)
    planned = terraform.run(directory, "plan", *options, STUB_MOVED=f"{image}:0.1.0")
    changed = set(re.findall(r"^ +# module\.dropline\.(\S+) (?:will|must) be", planned, re.MULTILINE))
    assert (
        changed
        == {
            "function": {
                "module.function.google_cloud_run_v2_service.this",
                "module.function.google_cloud_run_v2_job.redrive",
            },
            "worker": {"module.worker.google_cloud_run_v2_worker_pool.this"},
            "migrations": {
                "module.database.google_cloud_run_v2_job.migrations",
                "module.database.terraform_data.migrations",
            },
        }[image]
    )


def backends(directory: Path) -> list[str]:
    """The backends of a root's state; empty for a state file in the root's directory."""
    text = "".join(path.read_text() for path in sorted(directory.glob("*.tf")))
    return re.findall(r'^ +backend "(\w+)"', text, re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_state_is_kept_in_a_bucket(example: str, tmp_path: Path) -> None:
    """Each example's state, which holds a password, is in Cloud Storage; control: a local backend is noticed."""
    assert backends(SOURCES / "examples" / example) == ["gcs"]
    copy = copy_sources(tmp_path / "terraform") / "examples" / example
    assert backends(copy) == ["local", "gcs"]


def test_nothing_is_left_in_the_sources() -> None:
    """No state, no lock file with the stub's checksums and no plan is under version control."""
    if not (SOURCES.parent / ".git").exists():
        pytest.skip("this is no checkout of git, so nothing is under version control")
    listed = subprocess.run(
        ["git", "ls-files", "terraform"], cwd=SOURCES.parent, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert "terraform/main.tf" in listed
    assert [name for name in listed if name.endswith((".tfstate", ".lock.hcl", ".tfplan"))] == []
