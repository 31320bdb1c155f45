"""`make images` and `make first-caption`, with stand-ins for gcloud and terraform."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import gcloud_tree
from tests.support.stand_in_gcloud import Cloud, command_of

ROOT = Path(__file__).resolve().parents[2]
FIRST_RUN = [
    "gcloud services enable",
    "gcloud artifacts repositories list",
    "gcloud artifacts repositories create",
    "gcloud storage buckets list",
    "gcloud storage buckets create",
    "gcloud storage buckets update",
    "gcloud beta builds submit",
    "terraform init",
]


@pytest.fixture
def cloud(tmp_path: Path) -> Cloud:
    """An empty project."""
    return Cloud.make(tmp_path / "cloud", "gcloud", "terraform")


def make(cloud: Cloud, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["make", "-C", str(ROOT), *arguments],
        env=cloud.environment(TRIES="4"),
        capture_output=True,
        text=True,
        check=False,
    )


def images(cloud: Cloud, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return make(cloud, "images", "PROJECT=p-1", "REGION=europe-west4", *arguments)


def short(cloud: Cloud) -> list[str]:
    """The calls, without names of services and repositories."""
    found = []
    for program, *words in cloud.calls():
        command = command_of(words)
        found.append(" ".join((program, *command)) if command else f"{program} {words[1]}")
    return found


def flat(cloud: Cloud) -> list[str]:
    return [" ".join(call) for call in cloud.calls()]


def test_an_empty_project_gets_all(cloud: Cloud) -> None:
    """Services, registry, state bucket with versions, images, and Terraform connected to the state."""
    done = images(cloud)
    assert done.returncode == 0, done.stderr
    assert short(cloud) == FIRST_RUN
    state = cloud.read()
    assert state["repositories"] == ["dropline"]
    assert state["buckets"] == ["gs://p-1-tfstate"]
    calls = flat(cloud)
    assert "--config=cloudbuild.yaml --substitutions=_REGION=europe-west4,_VERSION=0.1.0" in calls[6]
    root = "terraform -chdir=terraform/examples/minimal"
    assert calls[7] == f"{root} init -input=false -backend-config=bucket=p-1-tfstate"
    assert f"{root} apply -var=project=p-1 -var=region=europe-west4" in done.stderr
    assert all("--project=p-1" in call for call in calls[:5])


def test_a_second_run_creates_nothing(cloud: Cloud) -> None:
    """What exists stays; the images are built again."""
    images(cloud)
    before = len(cloud.calls())
    assert images(cloud).returncode == 0
    assert short(cloud)[before:] == [each for each in FIRST_RUN if not each.endswith("create")]


def test_a_service_that_is_not_in_effect_yet_is_asked_again(cloud: Cloud) -> None:
    """A refusal of a service that was just enabled is repeated."""
    cloud.write({"waits": 2})
    assert images(cloud).returncode == 0
    assert short(cloud).count("gcloud artifacts repositories list") == 3


@pytest.mark.parametrize(
    ("refused", "later"),
    [
        ("services enable", "artifacts"),
        ("artifacts repositories list", "create"),
        ("artifacts repositories create", "storage"),
        ("storage buckets list", "create gs"),
        ("beta builds submit", "terraform"),
    ],
)
def test_a_refusal_ends_the_run(cloud: Cloud, refused: str, later: str) -> None:
    """A step without a right ends with gcloud's message and a code; no later step runs, no step is repeated."""
    cloud.write({"refuse": [refused]})
    done = images(cloud)
    assert done.returncode != 0
    assert "PERMISSION_DENIED" in done.stderr
    assert flat(cloud)[-1].startswith(f"gcloud {refused}")
    assert sum(refused in call for call in flat(cloud)) == 1
    assert not any(later in call for call in flat(cloud)[-1:])


def test_a_bucket_of_another_project_is_named(cloud: Cloud) -> None:
    """The name of the state bucket is taken: the message has the way to another name, which then works."""
    cloud.write({"taken": ["gs://p-1-tfstate"]})
    done = images(cloud)
    assert done.returncode != 0
    assert "STATE_BUCKET=NAME" in done.stderr
    assert images(cloud, "STATE_BUCKET=other").returncode == 0
    assert cloud.read()["buckets"] == ["gs://other"]
    assert flat(cloud)[-1].endswith("-backend-config=bucket=other")


def test_other_builds_and_no_root(cloud: Cloud) -> None:
    """`BUILD_ARGS` are added to the substitutions; without a root Terraform is not run."""
    assert images(cloud, "BUILD_ARGS=_EXTRAS=worker,_PIP_EXTRA_INDEX_URL=", "TERRAFORM_ROOT=").returncode == 0
    assert flat(cloud)[-1].endswith("_VERSION=0.1.0,_EXTRAS=worker,_PIP_EXTRA_INDEX_URL=")


@pytest.mark.parametrize("arguments", [[], ["PROJECT=p-1"], ["REGION=europe-west4"]])
def test_project_and_region_are_required(cloud: Cloud, arguments: list[str]) -> None:
    """Without one of them nothing is called, and the message has an example."""
    done = make(cloud, "images", *arguments)
    assert done.returncode != 0
    assert "make images PROJECT=" in done.stderr
    assert cloud.calls() == []


def test_a_missing_program_is_named_before_anything_is_made(tmp_path: Path) -> None:
    """Without terraform the run ends before its first call."""
    cloud = Cloud.make(tmp_path / "cloud", "gcloud")
    path = tmp_path / "tools"
    path.mkdir()
    for name in ("bash", "dirname", "mktemp", "rm", "env"):
        (path / name).symlink_to(f"/usr/bin/{name}")
    environment = {"PATH": f"{cloud.directory / 'bin'}:{path}", "PROJECT": "p", "REGION": "r", "VERSION": "1"}
    done = subprocess.run(
        [ROOT / "tools" / "cloud_images.sh"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "terraform is not on the PATH" in done.stderr
    assert cloud.calls() == []


def test_the_first_caption_is_printed(cloud: Cloud) -> None:
    """The image is uploaded once, and its metadata are read until the caption is there."""
    cloud.write({"waits": 3})
    done = make(cloud, "-s", "first-caption", "PROJECT=p-1", "FILE=photos/a.jpg")
    assert done.stdout == "a red circle\n"
    assert flat(cloud)[0] == "gcloud storage cp photos/a.jpg gs://p-1-dropline-drops/a.jpg"
    assert short(cloud)[1:] == ["gcloud storage objects describe"] * 3


def test_no_caption_is_an_error(cloud: Cloud) -> None:
    """After the last look the command fails and names the page with the causes."""
    cloud.write({"waits": 99})
    done = make(cloud, "first-caption", "PROJECT=p-1", "FILE=a.jpg")
    assert done.returncode != 0
    assert "docs/deploy.md#no-caption" in done.stderr


def test_the_stand_in_refuses_unknown_flags(cloud: Cloud) -> None:
    """Control: a flag or a command that gcloud does not have fails."""
    for words in (["storage", "buckets", "list", "--frobnicate"], ["frobnicate"]):
        done = subprocess.run(
            [cloud.directory / "bin" / "gcloud", *words], env=dict(os.environ), capture_output=True, check=False
        )
        assert done.returncode == 1


def test_gcloud_has_each_call(cloud: Cloud) -> None:
    """Each recorded call is one of the SDK's commands with its flags."""
    tree = gcloud_tree.load_tree()
    if tree is None:
        pytest.skip("the Google Cloud SDK is not installed")
    images(cloud)
    make(cloud, "first-caption", "PROJECT=p-1", "FILE=a.jpg")
    calls = [words for program, *words in cloud.calls() if program == "gcloud"]
    assert calls
    assert [told for words in calls if (told := gcloud_tree.mistake(tree, words, whole=True))] == []
