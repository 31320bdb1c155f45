"""`make images` and `make first-caption`, with stand-ins for gcloud and terraform."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import gcloud_tree
from tests.support.stand_in_gcloud import Cloud, command_of

#: What Cloud Build says without the rights of its account, and without the account (public logs of gcloud).
NO_RIGHTS = (
    "INVALID_ARGUMENT: could not resolve source: googleapi: Error 403: 1-compute@developer.gserviceaccount.com "
    "does not have storage.objects.get access to the Google Cloud Storage object."
)
NO_ACCOUNT = "NOT_FOUND: generic::not_found: Unknown service account."
#: What gcloud says when a build has an id.
STARTED = "Created [https://cloudbuild.googleapis.com/v1/projects/p-1/locations/global/builds/b]."
ROOT = Path(__file__).resolve().parents[2]
FIRST_RUN = [
    "gcloud services enable",
    "gcloud artifacts repositories list",
    "gcloud artifacts repositories create",
    "gcloud storage buckets list",
    "gcloud storage buckets create",
    "gcloud storage buckets update",
    "gcloud storage buckets list",
    "gcloud storage buckets create",
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
    """Services, registry, state bucket with versions, sources' bucket, images, and Terraform with the state."""
    done = images(cloud)
    assert done.returncode == 0, done.stderr
    assert short(cloud) == FIRST_RUN
    state = cloud.read()
    assert state["repositories"] == ["dropline"]
    assert state["buckets"] == ["gs://p-1-tfstate", "gs://p-1-dropline-builds"]
    assert state["versioned"] == ["gs://p-1-tfstate"]
    calls = flat(cloud)
    assert "--config=cloudbuild.yaml" in calls[8]
    assert "--substitutions=_REGION=europe-west4,_VERSION=0.1.0" in calls[8]
    assert "--service-account" not in calls[8]
    root = "terraform -chdir=terraform/examples/minimal"
    assert calls[9] == f"{root} init -input=false -backend-config=bucket=p-1-tfstate"
    assert f"{root} apply -var=project=p-1 -var=region=europe-west4" in done.stderr
    assert all("--project=p-1" in call for call in (*calls[:5], *calls[6:9]))


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


@pytest.mark.parametrize("readable", [True, False])
@pytest.mark.parametrize(
    ("bucket", "variable"), [("p-1-tfstate", "STATE_BUCKET"), ("p-1-dropline-builds", "BUILDS_BUCKET")]
)
def test_a_default_name_that_is_taken_is_refused(cloud: Cloud, bucket: str, variable: str, readable: bool) -> None:
    """Nothing goes to whoever guessed the name, whether readable or not; the way out is named, and works."""
    taken = [f"gs://{bucket}"]
    cloud.write({"taken": taken, "readable": taken if readable else []})
    done = images(cloud)
    assert done.returncode != 0
    assert f"{variable}=NAME" in done.stderr
    assert "beta builds submit" not in " ".join(flat(cloud))
    assert images(cloud, f"{variable}=other").returncode == 0
    assert "gs://other" in cloud.read()["buckets"]
    assert ("gs://other" in cloud.read()["versioned"]) == (variable == "STATE_BUCKET")


@pytest.mark.parametrize("versioned", [True, False])
def test_a_named_state_bucket_of_another_project_is_taken(cloud: Cloud, versioned: bool) -> None:
    """It stays as it is; without versions there is a warning with the command."""
    states = ["gs://states"]
    cloud.write({"taken": states, "readable": states, "versioned": states if versioned else []})
    done = images(cloud, "STATE_BUCKET=states")
    assert done.returncode == 0, done.stderr
    assert flat(cloud)[-1].endswith("-backend-config=bucket=states")
    assert cloud.read()["buckets"] == ["gs://p-1-dropline-builds"]
    assert not any("buckets update" in call for call in flat(cloud))
    assert ("gcloud storage buckets update gs://states --versioning" in done.stderr) == (not versioned)


def test_a_named_state_bucket_that_may_not_be_read_is_refused(cloud: Cloud) -> None:
    """The messages say why, and name the variable."""
    cloud.write({"taken": ["gs://states"]})
    done = images(cloud, "STATE_BUCKET=states")
    assert done.returncode != 0
    assert "storage.buckets.get" in done.stderr
    assert "STATE_BUCKET=NAME" in done.stderr


def test_a_policy_of_locations_is_met(cloud: Cloud) -> None:
    """All buckets are made in the region; gcloud's own bucket for the sources would be in the US."""
    cloud.write({"locations": ["europe-west4"]})
    done = images(cloud)
    assert done.returncode == 0, done.stderr
    assert "--gcs-source-staging-dir=gs://p-1-dropline-builds/source" in flat(cloud)[-2]


@pytest.mark.parametrize("told", [NO_RIGHTS, NO_ACCOUNT], ids=["no rights", "no account"])
def test_a_build_waits_for_its_account(cloud: Cloud, told: str) -> None:
    """Account and rights are made after the services are enabled: a refusal for their lack is repeated."""
    cloud.write({"builds": [told, told]})
    done = images(cloud)
    assert done.returncode == 0, done.stderr
    assert short(cloud).count("gcloud beta builds submit") == 3
    assert told in done.stderr


def test_an_account_that_never_gets_rights_is_an_error(cloud: Cloud) -> None:
    """The repetition ends, and the message names the page with the causes."""
    cloud.write({"builds": [NO_RIGHTS] * 9})
    done = images(cloud)
    assert done.returncode != 0
    assert short(cloud).count("gcloud beta builds submit") == 5
    assert "docs/deploy.md#cloud-build" in done.stderr


@pytest.mark.parametrize(
    ("told", "hint"),
    [
        (f"x\n{STARTED}\n{NO_RIGHTS}", False),
        ("INVALID_ARGUMENT: invalid build: invalid image name", True),
        ("PERMISSION_DENIED: The caller does not have permission", True),
    ],
    ids=["a build that failed", "a wrong build", "a caller without rights"],
)  # fmt: skip
def test_other_failures_of_a_build_are_final(cloud: Cloud, told: str, hint: bool) -> None:
    """No repetition; if no build was started, the message has the case of a new project."""
    cloud.write({"builds": [told]})
    done = images(cloud)
    assert done.returncode != 0
    assert short(cloud).count("gcloud beta builds submit") == 1
    assert ("run the same command again in two minutes" in done.stderr) == hint


@pytest.mark.parametrize(
    ("account", "given"),
    [
        ("ci@p-1.iam.gserviceaccount.com", "projects/p-1/serviceAccounts/ci@p-1.iam.gserviceaccount.com"),
        ("projects/o/serviceAccounts/ci@o.iam", "projects/o/serviceAccounts/ci@o.iam"),
    ],
)
def test_the_builds_may_have_an_account_of_their_own(cloud: Cloud, account: str, given: str) -> None:
    """Cloud Build gets the account's full name."""
    assert images(cloud, f"BUILD_ACCOUNT={account}").returncode == 0
    assert f"--service-account={given}" in flat(cloud)[-2].split()


def test_the_builds_log_to_cloud_logging_alone() -> None:
    """Cloud Build refuses an account of the caller's with the default bucket of logs."""
    assert "\n  logging: CLOUD_LOGGING_ONLY\n" in (ROOT / "cloudbuild.yaml").read_text()


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
    images(cloud, "STATE_BUCKET=states", "BUILD_ACCOUNT=ci@p-1.iam.gserviceaccount.com")
    make(cloud, "first-caption", "PROJECT=p-1", "FILE=a.jpg")
    calls = [words for program, *words in cloud.calls() if program == "gcloud"]
    assert calls
    assert [told for words in calls if (told := gcloud_tree.mistake(tree, words, whole=True))] == []
