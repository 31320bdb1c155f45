"""`compose.yaml` describes the same stack as `dropline up`."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dropline.settings import PREFIX, variables
from local_emulators import options
from local_emulators.ports import DEFAULT_BASE, Ports
from tests.support.dockerfile import read_dockerfile

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
    return parsed


def test_every_service_of_the_stack_is_there_and_flower(compose: dict[str, Any]) -> None:
    """The file has the services of `dropline up`, the three preparations, and Flower in a profile of its own."""
    assert {*compose["services"]} == {
        *("postgres", "redis", "pubsub", "gcs", "function", "worker", "gallery"),
        *("migrate", "topics", "token", "flower"),
    }
    assert {name: part["profiles"] for name, part in compose["services"].items() if "profiles" in part} == {
        "flower": ["flower"]
    }


def test_the_host_sees_the_ports_of_dropline_up_on_loopback_only(compose: dict[str, Any]) -> None:
    """Each published port is a port of the default base, bound to 127.0.0.1."""
    ports = Ports.from_base(DEFAULT_BASE)
    expected = {
        "postgres": [ports.postgres],
        "redis": [ports.redis],
        "gcs": [ports.gcs_http, ports.gcs_https],
        "pubsub": [ports.pubsub],
        "function": [ports.function],
        "gallery": [ports.gallery],
        "flower": [ports.flower],
    }
    published = {name: part["ports"] for name, part in compose["services"].items() if "ports" in part}
    assert {name: [port.rsplit(":", 1)[0] for port in found] for name, found in published.items()} == {
        name: [f"127.0.0.1:{number}" for number in numbers] for name, numbers in expected.items()
    }


def test_every_dropline_variable_is_a_setting(compose: dict[str, Any]) -> None:
    """Every variable is a setting: a container with an unknown variable would refuse to start."""
    known = {name for name, _, _ in variables()}
    for service in compose["services"].values():
        assert {name for name in service.get("environment", {}) if name.startswith(PREFIX)} <= known


def test_the_names_are_those_of_the_stack(compose: dict[str, Any]) -> None:
    """Project, topic and bucket agree with `dropline up`; the bucket is the seed directory's name."""
    gcs, function = compose["services"]["gcs"], compose["services"]["function"]
    assert f"-event.pubsub-project-id={options.PROJECT}" in gcs["command"]
    assert f"-event.pubsub-topic={options.TOPIC}" in gcs["command"]
    assert gcs["tmpfs"] == [f"/data/{options.BUCKET}"]
    assert json.loads(function["environment"]["DROPLINE_EVENTS__BUCKETS"]) == [options.BUCKET]
    assert function["environment"]["GOOGLE_CLOUD_PROJECT"] == options.PROJECT


def test_every_part_has_the_role_it_needs(compose: dict[str, Any]) -> None:
    """Function and worker log in with the roles of the init script; only migrations use the superuser."""
    urls = {
        name: part["environment"]["DROPLINE_DATABASE__URL"]
        for name, part in compose["services"].items()
        if "DROPLINE_DATABASE__URL" in part.get("environment", {})
    }
    users = {name: url.removeprefix("postgresql://").split(":")[0] for name, url in urls.items()}
    assert users == {"migrate": "postgres", "function": "dropline_ingest", "worker": "dropline_worker"}
    roles = compose["configs"]["roles"]["content"]
    assert all(
        f"CREATE ROLE {role} LOGIN" in roles
        for role in ("dropline_ingest", "dropline_worker", "dropline_gallery", "dropline_editor")
    )


def test_every_setting_can_be_given(compose: dict[str, Any]) -> None:
    """Function, worker and gallery read one optional file with further settings, since some must agree."""
    files = {name: part["env_file"] for name, part in compose["services"].items() if "env_file" in part}
    optional = [{"path": "dropline.env", "required": False}]
    assert files == {"function": optional, "worker": optional, "gallery": optional}


def test_the_gallery_reads_and_writes_as_two_roles_and_has_a_token(compose: dict[str, Any]) -> None:
    """The gallery's second login submits and edits; the token and its entry are on the volume of both services."""
    gallery, token = compose["services"]["gallery"], compose["services"]["token"]
    assert "//dropline_reader:" in gallery["environment"]["DATABASE_URL"]
    assert "//dropline_gallery:" in gallery["environment"]["DROPLINE_GALLERY__DATABASE_URL"]
    directory = token["command"][-1]
    assert gallery["environment"]["DROPLINE_GALLERY__TOKENS_FILE"] == f"{directory}/tokens"
    assert gallery["volumes"] == token["volumes"] == [f"gallery:{directory}"]
    assert gallery["depends_on"]["token"] == {"condition": "service_completed_successfully"}


def test_events_for_flower_are_off_unless_they_are_asked_for(compose: dict[str, Any]) -> None:
    """Celery's events are off, as elsewhere; the command line with the profile of Flower switches them on."""
    assert compose["services"]["worker"]["environment"]["DROPLINE_BROKER__SEND_EVENTS"] == "${LOCAL_EVENTS:-false}"
    assert {name: default for name, default, _ in variables()}["DROPLINE_BROKER__SEND_EVENTS"] is False


def test_what_is_waited_for_exists_and_images_are_built_from_known_targets(compose: dict[str, Any]) -> None:
    """Every dependency is a service, and every build target is a stage of the Dockerfile."""
    stages = read_dockerfile().stages
    for service in compose["services"].values():
        assert {*service.get("depends_on", ())} <= {*compose["services"]}
        assert "image" in service or service["build"]["target"] in stages


def test_build_arguments_are_the_dockerfiles(compose: dict[str, Any]) -> None:
    """The worker's default checkpoint is the demo model, and every argument is an argument of the built stages."""
    dockerfile = read_dockerfile()
    build = compose["services"]["worker"]["build"]
    assert build["args"]["CHECKPOINT"] == "${LOCAL_MODEL:-demo}"
    taken = {
        name
        for stage in dockerfile.inputs(build["target"])
        for argument in dockerfile.stages[stage].all("ARG")
        for name in argument.pairs
    }
    assert build["args"].keys() <= taken


def test_images_are_of_one_version(compose: dict[str, Any]) -> None:
    """Each tag names a patch release, so the stack stays the same from day to day."""
    tags = [part["image"].rpartition(":")[2] for part in compose["services"].values() if "image" in part]
    # Postgres versions have two numbers only.
    assert len(tags) == 3
    assert all(re.fullmatch(r"\d+\.\d+(\.\d+)?", tag) for tag in tags)
    assert [tag for tag in tags if tag.count(".") == 1] == ["18.6"]


def test_it_follows_the_schema() -> None:
    """The file follows the schema of the Compose specification."""
    program = Path(sys.executable).with_name("check-jsonschema")
    schema = "vendor.compose-spec"
    finished = subprocess.run(
        [program, "--builtin-schema", schema, ROOT / "compose.yaml"], capture_output=True, check=False, timeout=60
    )
    assert finished.returncode == 0, finished.stdout


def test_storage_starts_after_the_topic_it_publishes_to(compose: dict[str, Any]) -> None:
    """An event without a topic is lost, so the topic comes first; the worker waits for the migrated table."""
    assert compose["services"]["gcs"]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}
    assert compose["services"]["worker"]["depends_on"]["migrate"] == {
        "condition": "service_completed_successfully"
    }
