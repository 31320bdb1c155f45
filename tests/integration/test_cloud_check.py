"""`dropline cloud check` over HTTP, against a strict stand-in for Google's APIs."""

import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from cli.exit_codes import ExitCode
from operations.cloud_check.needs import GPU_QUOTA, PERMISSIONS
from operations.cloud_check.policies import CONSTRAINTS
from tests.support import fake_google, gcloud_tree
from tests.support.fake_google import NUMBER, PROJECT, FakeGoogle
from tests.support.shell import Finished, run

MANAGER = "cloudresourcemanager.googleapis.com"
Change = Callable[[FakeGoogle], object]


@pytest.fixture
def google() -> Iterator[FakeGoogle]:
    """A project that is ready."""
    with fake_google.serve() as found:
        yield found


def check(google: FakeGoogle, *options: str, project: str = PROJECT, region: str = "europe-west4") -> Finished:
    return run("cloud", "check", "--project", project, "--region", region, "--endpoint", google.url, *options)


def findings(google: FakeGoogle, *options: str, level: str = "", **place: str) -> list[dict[str, Any]]:
    """The findings of `--json`, of one level."""
    document = json.loads(check(google, "--json", *options, **place).stdout)
    return [each for each in document["findings"] if not level or each["level"] == level]


def test_a_ready_project(google: FakeGoogle) -> None:
    """Nothing blocks, nothing warns; exit code 0; only the registry is left to `make images`."""
    done = check(google)
    assert done.exit_code == ExitCode.OK, done.output
    assert "0 blocked, 0 warnings" in done.stdout
    assert [each["level"] for each in findings(google) if each["level"] != "ok"] == ["later"]


def test_it_only_reads(google: FakeGoogle) -> None:
    """Every request is a GET, but for the one POST that changes nothing."""
    check(google)
    posts = [path for method, path in google.requests if method != "GET"]
    assert posts == [f"/cloudresourcemanager.googleapis.com/v3/projects/{PROJECT}:testIamPermissions"]


def _set(**values: Any) -> Change:
    return lambda google: google.__dict__.update(values)


def _rules(constraint: str, **rule: Any) -> Change:
    return _set(policies={constraint: [rule]})


@pytest.mark.parametrize(
    ("change", "level", "part", "says", "command"),
    [
        (_set(billing=False), "blocked", "billing", "no open billing account", "billing projects link my-project"),
        (_set(enabled=set()), "later", "services", "`make images` enables", "services enable artifactregistry"),
        (_set(enabled=set()), "later", "services", "`terraform apply` enables", "services enable cloudtasks"),
        (_set(held=set()), "blocked", "rights", "run.workerpools.create", "--role=roles/run.admin"),
        (_set(gpus={"europe-west4": 0}), "warning", "quota", "should grant 3", f"--quota-id={GPU_QUOTA}"),
        (_set(gpus={"europe-west4": 1}), "warning", "quota", "an upgrade", "--preferred-value=2"),
        (_set(gpus={"europe-west1": 9}), "blocked", "region", "europe-west1", "--region europe-west1"),
        (_set(buckets={"my-project-tfstate": "1"}), "blocked", "names", "another project", "STATE_BUCKET=NAME"),
        (_set(buckets={"my-project-tfstate": ""}), "blocked", "names", "may not read", "STATE_BUCKET=NAME"),
        (_set(buckets={"my-project-dropline-builds": "1"}), "warning", "names", "another", "BUILDS_BUCKET=NAME"),
        (_set(buckets={"my-project-dropline-builds": ""}), "warning", "names", "may not", "BUILDS_BUCKET=NAME"),
        (_set(buckets={"my-project-dropline-drops": "1"}), "blocked", "names", "another project", "--name OTHER"),
        (_set(buckets={"my-project-dropline-drops": NUMBER}), "warning", "names", "there already", "describe"),
        (_set(registries={"dropline": "PYTHON"}), "blocked", "names", "for PYTHON", "repositories delete"),
        (
            _rules("gcp.resourceLocations", values={"allowedValues": ["us-central1"]}),
            "blocked", "policies", "refuses resources in europe-west4", "allow gcp.resourceLocations",
        ),
        (
            _rules("gcp.resourceLocations", values={"allowedValues": ["in:us-locations"]}),
            "warning", "policies", "in:us-locations", "describe gcp.resourceLocations",
        ),
        (
            _rules(
                "gcp.resourceLocations",
                values={"allowedValues": ["in:europe-west4-locations", "in:europe-west1-locations"]},
            ),
            "warning", "policies", "secrets", "describe gcp.resourceLocations",
        ),
        (
            _rules("gcp.resourceLocations", values={"allowedValues": ["in:europe-west4-locations"]}),
            "blocked", "policies", "in europe-west1: it allows in:europe-west4-locations; the queue",
            "allow gcp.resourceLocations in:europe-west4-locations in:europe-west1-locations",
        ),
        (
            _rules("gcp.resourceLocations", values={"deniedValues": ["europe-west1"]}),
            "blocked", "policies", "refuses resources in europe-west1; the queue", "allow gcp.resourceLocations",
        ),
        (
            _set(tasks_regions=("asia-east1", "europe-west3")),
            "blocked", "tasks", "does not exist in europe-west1", "-var=tasks_region=europe-west3",
        ),
        (
            _rules("gcp.restrictServiceUsage", values={"deniedValues": ["redis.googleapis.com"]}),
            "blocked", "policies", "refuses redis.googleapis.com", "describe gcp.restrictServiceUsage",
        ),
        (
            _rules("gcp.restrictNonCmekServices", values={"deniedValues": ["is:sqladmin.googleapis.com"]}),
            "blocked", "policies", "keys of your own for sqladmin", "describe gcp.restrictNonCmekServices",
        ),
        (_rules("run.allowedIngress", denyAll=True), "blocked", "policies", "does not allow internal", "describe"),
        (_rules("compute.restrictVpcPeering", denyAll=True), "blocked", "policies", "every peering", "describe"),
        (
            _rules("run.allowedIngress", values={"allowedValues": ["all"]}),
            "blocked", "policies", "does not allow internal", "allow run.allowedIngress internal",
        ),
        (
            _rules("run.allowedIngress", values={"allowedValues": ["internal"]}),
            "warning", "policies", "a gallery is refused", "describe run.allowedIngress",
        ),
        (
            _rules("run.managed.requireInvokerIam", enforce=True),
            "warning", "policies", "a gallery with tokens of its own", "describe run.managed.requireInvokerIam",
        ),
        (
            _rules("run.allowedVPCEgress", values={"allowedValues": ["all-traffic"]}),
            "blocked", "policies", "private-ranges-only", "allow run.allowedVPCEgress private-ranges-only",
        ),
        (
            _rules("iam.automaticIamGrantsForDefaultServiceAccounts", enforce=True),
            "warning", "policies", "Cloud Build", f"serviceAccount:{NUMBER}-compute@",
        ),
        (
            _rules("run.allowedIngress", denyAll=True, condition={"expression": "true"}),
            "warning", "policies", "under a condition", "describe run.allowedIngress",
        ),
    ],
)  # fmt: skip
def test_what_a_project_lacks_is_found(
    google: FakeGoogle, change: Change, level: str, part: str, says: str, command: str
) -> None:
    """Each lack is one finding with the command that mends it; what blocks the deployment sets exit code 1."""
    change(google)
    found = [each for each in findings(google, level=level) if each["part"] == part and says in each["text"]]
    assert len(found) == 1
    assert any(command in each for each in found[0]["commands"])
    assert (check(google).exit_code == ExitCode.FAILED) == (level == "blocked" or not google.held)


def tasks_of(found: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Level and text of the findings about the queue of Cloud Tasks."""
    return [(each["level"], each["text"]) for each in found if each["part"] == "tasks"]


def test_the_queue_is_in_a_near_region(google: FakeGoogle) -> None:
    """A region without Cloud Tasks has its queue in Terraform's near region, which Cloud Tasks' list has."""
    assert tasks_of(findings(google)) == [
        ("ok", "europe-west1 has Cloud Tasks, for europe-west4: the queue of scale to zero")
    ]
    (asked,) = {path for _, path in google.requests if path.startswith("/cloudtasks")}
    assert asked == f"/cloudtasks.googleapis.com/v2/projects/{PROJECT}/locations"
    assert tasks_of(findings(google, region="us-west4")) == [
        ("ok", "us-west4 has Cloud Tasks: the queue of scale to zero")
    ]


def test_a_given_region_of_the_queue_is_checked(google: FakeGoogle) -> None:
    """`--tasks-region` is Terraform's variable: it may mend a policy, and it may be wrong."""
    google.policies = {"gcp.resourceLocations": [{"values": {"deniedValues": ["in:europe-west1-locations"]}}]}
    assert check(google).exit_code == ExitCode.FAILED
    assert check(google, "--tasks-region", "europe-west3").exit_code == ExitCode.OK
    google.policies = {}
    ((level, text),) = tasks_of(findings(google, "--tasks-region", "europe-west4"))
    assert (level, "does not exist in europe-west4" in text) == ("blocked", True)
    done = check(google, "--tasks-region", "europe-west1-b")
    assert (done.exit_code, "not a region" in done.stderr) == (ExitCode.USAGE, True)


def test_a_queue_in_iowa_needs_two_locations(google: FakeGoogle) -> None:
    """Cloud Tasks asks a policy for us-central1 and us-central2, whichever of the two has the queue."""
    google.policies = {"gcp.resourceLocations": [{"values": {"allowedValues": ["in:us-central1-locations"]}}]}
    (found,) = [
        each for each in findings(google, region="us-central1", level="blocked") if each["part"] == "policies"
    ]
    assert "refuses resources in us-central2" in found["text"]


@pytest.mark.parametrize(("region", "level"), [("europe-west4", "ok"), ("moon-west1", "warning")])
def test_before_cloud_tasks_is_enabled_droplines_list_decides(google: FakeGoogle, region: str, level: str) -> None:
    """In a new project the API is disabled; Dropline's own list only warns."""
    google.disabled = {"cloudtasks.googleapis.com"}
    ((found, _),) = tasks_of(findings(google, region=region))
    assert found == level
    google.disabled, google.failures = set(), {"cloudtasks.googleapis.com": 403}
    levels = [found for found, _ in tasks_of(findings(google, region=region))]
    assert levels == [level, "warning"]


def test_every_missing_right_has_its_role(google: FakeGoogle) -> None:
    """Without any right each role is named once."""
    google.held = set()
    granted = [each["commands"][0] for each in findings(google, level="blocked")]
    assert sorted(role for line in granted for role in set(PERMISSIONS.values()) if f"={role} " in line) == sorted(
        set(PERMISSIONS.values())
    )


def test_a_trial_on_cpus_needs_no_quota(google: FakeGoogle) -> None:
    """With `--gpus 0` neither the quota nor the region is asked for."""
    google.gpus = {}
    assert check(google, "--gpus", "0").exit_code == ExitCode.OK
    assert not any(path.startswith("/cloudquotas") for _, path in google.requests)
    assert findings(google, "--gpus", "0", level="warning") == []


@pytest.mark.parametrize(
    ("granted", "gpus", "level"),
    [(0, "1", "warning"), (0, "3", "warning"), (0, "4", "blocked"), (1, "3", "blocked"), (3, "3", "warning")],
)
def test_few_gpus_need_no_quota_before_the_first_deployment(
    google: FakeGoogle, granted: int, gpus: str, level: str
) -> None:
    """Google grants three with the first deployment: up to three, a quota of 0 only warns."""
    google.gpus = {"europe-west4": granted}
    (found,) = [each for each in findings(google, "--gpus", gpus) if each["part"] == "quota"]
    assert found["level"] == level
    assert f"--preferred-value={int(gpus) + 1}" in found["commands"][0]
    assert (check(google, "--gpus", gpus).exit_code == ExitCode.FAILED) == (level == "blocked")


def test_a_named_state_bucket_may_belong_to_another_project(google: FakeGoogle) -> None:
    """A readable bucket of another project is right if it was named; one with the default name is not."""
    google.buckets = {"states": "1", "secret-states": ""}
    (found,) = [each for each in findings(google, "--state-bucket", "states") if "gs://states" in each["text"]]
    assert (found["level"], "another project" in found["text"]) == ("ok", True)
    assert check(google, "--state-bucket", "states").exit_code == ExitCode.OK
    assert check(google, "--state-bucket", "secret-states").exit_code == ExitCode.FAILED
    google.buckets = {"my-project-tfstate": "1"}
    assert check(google, "--state-bucket", "my-project-tfstate").exit_code == ExitCode.FAILED


def test_only_client_based_apis_get_a_project(google: FakeGoogle) -> None:
    """Google would refuse the others in a project that has not enabled them yet."""
    check(google)
    counted = {host for host, project in google.consumers if project}
    assert counted == fake_google.CLIENT_BASED
    assert {project for _, project in google.consumers} == {"", PROJECT}


@pytest.mark.parametrize("host", ["cloudbilling.googleapis.com", *sorted(fake_google.CLIENT_BASED)])
def test_a_login_without_a_project_is_no_disabled_api(google: FakeGoogle, host: str) -> None:
    """Enabling the API would not help: the finding has the command that gives the login a project."""
    google.without_project = {host}
    (found,) = findings(google, level="warning")
    assert "requires a quota project" in found["text"]
    assert found["commands"] == [f"gcloud auth application-default set-quota-project {PROJECT}"]


def test_a_caller_who_may_not_use_the_project(google: FakeGoogle) -> None:
    """Quota and policies cannot be read; the findings name the role with `serviceusage.services.use`."""
    google.held -= {"serviceusage.services.use"}
    found = findings(google, level="warning")
    assert [each["part"] for each in found] == ["quota", "policies"]
    assert all("--role=roles/serviceusage.serviceUsageAdmin" in each["commands"][0] for each in found)
    (blocked,) = findings(google, level="blocked")
    assert "lacks serviceusage.services.use" in blocked["text"]


@pytest.mark.parametrize(
    ("host", "part"),
    [
        ("cloudbilling.googleapis.com", "billing"),
        ("serviceusage.googleapis.com", "services"),
        ("cloudquotas.googleapis.com", "quota"),
        ("orgpolicy.googleapis.com", "policies"),
    ],
)
@pytest.mark.parametrize("disabled", [True, False])
def test_what_cannot_be_read_is_a_warning(google: FakeGoogle, host: str, part: str, disabled: bool) -> None:
    """A disabled API has the command that enables it, a missing right the role; the other parts are checked."""
    if disabled:
        google.disabled = {host}
    else:
        google.failures = {host: 403}
    (found,) = findings(google, level="warning")
    assert (found["part"], "not checked" in found["text"]) == (part, True)
    command = f"gcloud services enable {host} --project={PROJECT}" if disabled else "add-iam-policy-binding"
    assert command in found["commands"][0]
    assert check(google).exit_code == ExitCode.OK


@pytest.mark.parametrize("host", ["serviceusage.googleapis.com", "orgpolicy.googleapis.com"])
def test_a_disabled_api_is_known_by_its_reason(google: FakeGoogle, host: str) -> None:
    """The reason of the error is enough, whatever the text says."""
    google.disabled, google.disabled_text = {host}, "not in use"
    (found,) = findings(google, level="warning")
    assert found["commands"] == [f"gcloud services enable {host} --project={PROJECT}"]


def test_refused_credentials_have_the_way_to_log_in(google: FakeGoogle, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 in spite of a token, as for a revoked login, is no answer about the project."""
    monkeypatch.setattr("google.auth.transport.requests.AuthorizedSession", lambda _: requests.Session())
    google.failures = {MANAGER: 401}
    done = check(google)
    assert done.exit_code == ExitCode.FAILED
    assert f"{MANAGER} refused the credentials; run: gcloud auth login" in done.stderr


def test_a_region_without_a_list_of_google_is_a_warning(google: FakeGoogle) -> None:
    """Where the quota cannot be read, Dropline's own list only warns."""
    google.disabled = {"cloudquotas.googleapis.com"}
    regions = [each for each in findings(google, region="us-west1") if each["part"] == "region"]
    assert [each["level"] for each in regions] == ["warning"]


@pytest.mark.parametrize(
    ("change", "project", "code", "says"),
    [
        (_set(), "other-project", ExitCode.USAGE, "does not exist, or your account may not see it"),
        (_set(), "My Project", ExitCode.USAGE, "not the id of a project"),
        (_set(state="DELETE_REQUESTED"), PROJECT, ExitCode.USAGE, "gcloud projects undelete"),
        (
            _set(disabled={MANAGER}),
            PROJECT, ExitCode.FAILED, "services enable cloudresourcemanager.googleapis.com",
        ),
        (_set(without_project={MANAGER}), PROJECT, ExitCode.FAILED, "set-quota-project my-project"),
        (_set(failures={MANAGER: 401}), PROJECT, ExitCode.FAILED, "gcloud auth login"),
        (_set(failures={MANAGER: 503}), PROJECT, ExitCode.UNAVAILABLE, "answered 503"),
        (_set(failures={"storage.googleapis.com": 429}), PROJECT, ExitCode.UNAVAILABLE, "answered 429"),
        (_set(failures={MANAGER: 0}), PROJECT, ExitCode.UNAVAILABLE, "no answer from"),
    ],
)  # fmt: skip
def test_errors_are_clear(google: FakeGoogle, change: Change, project: str, code: ExitCode, says: str) -> None:
    """No such project, no right, a disabled API and no answer end with one line and the right code."""
    change(google)
    done = check(google, project=project)
    assert (done.exit_code, says in done.stderr) == (code, True), done.output
    assert len(done.stderr.splitlines()) == 1


def test_without_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The way to log in is named."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    done = run("cloud", "check", "--project", PROJECT, "--region", "europe-west4")
    assert done.exit_code == ExitCode.FAILED
    assert "gcloud auth login --update-adc" in done.stderr


def test_gcloud_has_the_commands(google: FakeGoogle) -> None:
    """Each command of a finding is one of the SDK's, with its flags."""
    tree = gcloud_tree.load_tree()
    if tree is None:
        pytest.skip("the Google Cloud SDK is not installed")
    google.billing, google.enabled, google.gpus = False, set(), {"europe-west4": 0}
    # Without this right the policies cannot be read.
    google.held = {"serviceusage.services.use"}
    google.buckets = {"my-project-dropline-drops": NUMBER}
    google.registries = {"dropline": "NPM"}
    google.policies = {each.name: [{"denyAll": True, "enforce": True}] for each in CONSTRAINTS}
    lines = [line for each in findings(google) for line in each["commands"]]
    calls = [shlex.split(line)[1:] for line in lines if line.startswith("gcloud ")]
    assert len(calls) > 30
    assert [told for words in calls if (told := gcloud_tree.mistake(tree, words, whole=True))] == []
