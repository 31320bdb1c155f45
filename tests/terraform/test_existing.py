"""Parts that exist already are used and not made: network, Postgres, Redis and buckets, also of other projects."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.terraform.conftest import EXAMPLES, GIVEN_SECRETS
from tests.terraform.parts import CLOUD_RUN, PARTS, container_of, instance_of, part
from tests.terraform.workspace import PROJECT, Plan, Terraform

_GIVEN = EXAMPLES["existing"]
_DATA_PROJECT = _GIVEN["data_project"]
#: The types of resource that are given, and therefore not made.
_NOT_MADE = (
    "compute_network",
    "compute_subnetwork",
    "compute_global_address",
    "service_networking_connection",
    "redis_instance",
    "secret_manager_secret",
    "sql_database_instance",
    "storage_bucket",
)


@pytest.fixture
def given(plans: dict[str, Plan]) -> Plan:
    """The plan of the example `existing`."""
    return plans["existing"]


@pytest.mark.parametrize("kind", _NOT_MADE)
def test_a_part_that_exists_is_not_made(plans: dict[str, Plan], given: Plan, kind: str) -> None:
    """The plan makes no second network, Postgres, Redis or bucket; control: `minimal` does."""
    assert plans["minimal"].of(kind)
    assert given.of(kind) == []


def test_every_part_is_in_the_existing_network(given: Plan) -> None:
    """All of Cloud Run's parts use the subnetwork of the host project."""
    ways = [
        (way["network"], way["subnetwork"])
        for each in given.of(*CLOUD_RUN)
        for way in instance_of(each.values)["vpc_access"][0]["network_interfaces"]
    ]
    host = f"projects/{_GIVEN['host_project']}"
    network = f"{host}/global/networks/shared"
    assert set(ways) == {(network, f"{host}/regions/europe-west4/subnetworks/dropline-europe-west4")}
    assert len(ways) >= len(PARTS)


def test_logins_are_made_in_the_existing_postgres(given: Plan) -> None:
    """Database, logins and rights to log in are of the instance's project, and limited to the instance."""
    for each in given.of("sql_database", "sql_user"):
        assert (each.values["project"], each.values["instance"]) == (_DATA_PROJECT, "main")
    members = [each.values for each in given.of("project_iam_member") if each.values["condition"]]
    assert {each["project"] for each in members} == {_DATA_PROJECT}
    for member in members:
        assert f'"projects/{_DATA_PROJECT}/instances/main"' in member["condition"][0]["expression"]


def test_the_secrets_of_redis_can_be_read_before_they_are_used(given: Plan) -> None:
    """Function and worker may read both secrets, in their own project."""
    members = [each.values for each in given.of("secret_manager_secret_iam_member")]
    read = {(f"projects/{each['project']}/secrets/{each['secret_id']}", each["member"]) for each in members}
    accounts = [
        f"serviceAccount:dropline-{name}@{PROJECT}.iam.gserviceaccount.com" for name in ("function", "worker")
    ]
    assert read == {(secret, account) for secret in GIVEN_SECRETS for account in accounts}
    for name in ("function", "redrive", "worker"):
        (url,) = [each for each in container_of(given, name)["env"] if each["name"] == "DROPLINE_BROKER__URL"]
        assert url["value_source"][0]["secret_key_ref"][0]["secret"] == _GIVEN["redis_url_secret"]


def test_a_bucket_of_another_project_gets_a_role_of_its_project(given: Plan) -> None:
    """A custom role can only be given in its own project, so the role is made in the bucket's project."""
    given_roles = {each.values["role"] for each in given.of("storage_bucket_iam_member")}
    (role,) = given_roles
    made = {
        f"projects/{each.values['project']}/roles/{each.values['role_id']}": each.values["permissions"]
        for each in given.of("project_iam_custom_role")
    }
    assert role.startswith(f"projects/{_DATA_PROJECT}/")
    assert re.fullmatch(r"[a-zA-Z0-9_.]{3,64}", role.rpartition("/")[2])
    assert sorted(made[role]) == ["storage.objects.get", "storage.objects.list", "storage.objects.update"]


def test_the_agent_of_the_buckets_project_may_publish(given: Plan) -> None:
    """Cloud Storage publishes as the agent of the bucket's project; `minimal` has one agent."""
    members = [each for each in given.of("pubsub_topic_iam_member") if "storage_publishes" in each.address]
    assert [each.address.rpartition(".")[2] for each in members] == [
        "storage_publishes",
        f'storage_publishes_elsewhere["{_DATA_PROJECT}"]',
    ]
    assert {each.values["role"] for each in members} == {"roles/pubsub.publisher"}


def test_logins_that_are_there_already_are_left_alone(terraform: Terraform, sources: Path, tmp_path: Path) -> None:
    """Neither database nor logins are made or deleted, the roles are granted, and a second apply has no change."""
    copy = tmp_path / "terraform"
    shutil.copytree(sources, copy, symlinks=True)
    directory, log = copy / "examples" / "existing", tmp_path / "log"
    main = directory / "main.tf"
    there = 'has_database = true, has_logins = ["function", "worker", "migrator", "ana"]'
    text = main.read_text().replace("connection_name = var.postgres", f"connection_name = var.postgres, {there}")
    readers = '  database_readers = { ana = "ana@example.com", bi = "bi@example.com" }\n'
    main.write_text(re.sub(r"(source\s+= .*\n)", lambda found: found[1] + readers, text, count=1))
    options = ["-no-color", f"-state={tmp_path / 'state'}", *_options(_GIVEN)]
    terraform.run(directory, "apply", "-auto-approve", *options, STUB_LOG=str(log))
    text = (tmp_path / "state").read_text()
    assert {"ana", "bi"} == set(re.findall(r'"--grant=dropline_reader=(\w+)@example.com"', text))
    terraform.run(directory, "plan", "-detailed-exitcode", *options)
    terraform.run(directory, "destroy", "-auto-approve", *options, STUB_LOG=str(log))
    steps = [json.loads(line) for line in log.read_text().splitlines()]
    touched = {
        (each["type"].removeprefix("google_"), each["state"].get("name"))
        for each in steps
        if each["type"] in ("google_sql_user", "google_sql_database")
    }
    assert touched == {("sql_user", "bi@example.com")}


def test_another_api_takes_no_right_to_publish_away(terraform: Terraform, sources: Path, tmp_path: Path) -> None:
    """An apply that enables a further API, or adds a bucket, changes nothing of the buckets that are there.

    Each project has its own agent, which is known only after the apply.
    """
    copy = tmp_path / "terraform"
    shutil.copytree(sources, copy, symlinks=True)
    directory = copy / "examples" / "existing"
    state = f"-state={tmp_path / 'state'}"
    terraform.run(directory, "apply", "-auto-approve", "-no-color", state, *_options(_GIVEN))
    agents = [
        instance["attributes"]["member"]
        for each in json.loads((tmp_path / "state").read_text())["resources"]
        for instance in each["instances"]
        if (each["type"], each["name"][:17]) == ("google_pubsub_topic_iam_member", "storage_publishes")
    ]
    assert len(set(agents)) == len(agents) == 2
    main = directory / "main.tf"
    budget = '  budget = { billing_account = "000000-111111-222222", amount = 100 }\n'
    main.write_text(re.sub(r"(source\s+= .*\n)", lambda found: found[1] + budget, main.read_text(), count=1))
    more = _GIVEN | {"buckets": '["their-pictures", "their-scans", "their-maps"]'}
    planned = terraform.run(directory, "plan", "-no-color", state, *_options(more))
    changes = dict(re.findall(r"^ +# (\S+) (will be \w+|must be \w+)", planned, re.MULTILINE))
    assert 'module.dropline.google_project_service.this["billingbudgets.googleapis.com"]' in changes
    old = [each for each in changes if ".module.events." in each and "maps" not in each]
    assert old == []


def _options(variables: dict[str, str]) -> list[str]:
    return ["-input=false", *(f"-var={name}={value}" for name, value in variables.items())]


def test_a_redis_without_a_certificate_mounts_none(terraform: Terraform, sources: Path) -> None:
    """Without `certificate_secret` no container has a file of Redis."""
    plan = terraform.plan(
        sources / "examples" / "existing", {k: v for k, v in _GIVEN.items() if k != "redis_certificate_secret"}
    )
    for name in ("function", "redrive", "worker"):
        assert part(plan, name)["volumes"] == container_of(plan, name)["volume_mounts"] == []
    assert len(plan.of("secret_manager_secret_iam_member")) == 2
