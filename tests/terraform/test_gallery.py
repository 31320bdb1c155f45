"""The gallery beside Dropline: the root of the README, the policies, and the agreement with the gallery's code."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from db.start_check import READER, SUBMITTER
from dropline.settings import Settings, load_settings
from gallery.access import Scope, TokenEntry
from gallery.server import access_from
from tests.terraform.conftest import EXAMPLES
from tests.terraform.gallery_mutations import GALLERY_MUTATIONS
from tests.terraform.gallery_policies import GALLERY_POLICIES, RIGHTS, environment, rights, service
from tests.terraform.mutation import Mutation
from tests.terraform.policies import POLICIES
from tests.terraform.workspace import ROOT, SOURCES, Plan, Terraform

_PROVIDER = 'provider "google" {\n  project = var.project\n}\n\n'
_ENTRY = str(TokenEntry.named("ci", frozenset({Scope.READ, Scope.SUBMIT}), "0" * 64))
#: Another gallery than the README's, by the text of the variable.
_GALLERIES = {
    "tokens": f'{{ tokens = ["{_ENTRY}"] }}',
    "reading": '{ members = ["user:ana@example.com"], scopes = ["read"] }',
}

PlanRoot = Callable[[Path, str], Plan]


def readme_root() -> str:
    """The root in the README's section on the gallery."""
    text = (SOURCES / "README.md").read_text().partition("## The gallery")[2].partition("\n## ")[0]
    (block,) = re.findall(r"^```hcl\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(block)


def write_root(sources: Path, gallery: str = "") -> Path:
    """Replace the minimal example by the README's root, with another value of `gallery` if one is given."""
    root = readme_root()
    if gallery:
        root = re.sub(r"gallery = \{.*?\n  \}\n", lambda _: f"gallery = {gallery}\n", root, flags=re.DOTALL)
        assert gallery in root
    directory = sources / "examples" / "minimal"
    (directory / "main.tf").write_text(_PROVIDER + root)
    return directory


@pytest.fixture(scope="module")
def galleries(terraform: Terraform, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Plan]:
    """The plans of the README's root and of the two others."""
    copy = tmp_path_factory.mktemp("galleries") / "terraform"
    shutil.copytree(sources, copy, symlinks=True)
    found = {}
    for name, gallery in {"readme": "", **_GALLERIES}.items():
        directory = write_root(copy, gallery)
        (directory / "outputs.tf").unlink(missing_ok=True)
        found[name] = terraform.plan(directory, EXAMPLES["minimal"])
    return found


@pytest.fixture(params=["readme", *_GALLERIES])
def plan(request: pytest.FixtureRequest, galleries: dict[str, Plan]) -> Plan:
    """Each plan with a gallery in turn."""
    return galleries[request.param]


def test_the_policies_hold(plan: Plan) -> None:
    """A plan with a gallery keeps the policies of all plans, and those of the gallery."""
    assert [breach for policy in (*POLICIES, *GALLERY_POLICIES) for breach in policy(plan)] == []


@pytest.mark.parametrize("mutation", GALLERY_MUTATIONS, ids=str)
def test_a_policy_notices_its_mutation(
    terraform: Terraform, sources: Path, tmp_path: Path, mutation: Mutation
) -> None:
    """A broken copy can be planned, and the plan breaks the policy."""
    broken = tmp_path / "terraform"
    shutil.copytree(sources, broken, symlinks=True)
    mutation.apply(broken)
    directory = write_root(broken)
    (directory / "outputs.tf").unlink(missing_ok=True)
    assert list(mutation.policy(terraform.plan(directory, EXAMPLES["minimal"]))) != []


def test_every_policy_is_broken_by_something() -> None:
    """Every policy of the gallery has a mutation."""
    assert {mutation.policy for mutation in GALLERY_MUTATIONS} >= set(GALLERY_POLICIES)


def settings_of(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The settings of the planned gallery at its start."""
    versions = [
        each.values["secret_data"] for each in plan.of("secret_manager_secret_version") if "tokens" in each.address
    ]
    for name, value in environment(plan).items():
        if name == "DROPLINE_BROKER__URL":
            continue
        monkeypatch.setenv(name, value if isinstance(value, str) else versions[0])
    return load_settings()


def test_the_gallery_starts_with_its_environment(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable is a setting with an accepted value, and the gallery lets nobody in unasked."""
    settings = settings_of(plan, monkeypatch)
    access_from(settings.gallery)
    container = service(plan)["template"][0]["containers"][0]
    ports = {container["ports"][0]["container_port"]}
    ports |= {container[kind][0]["http_get"][0]["port"] for kind in ("startup_probe", "liveness_probe")}
    assert ports == {settings.gallery.port}
    assert settings.gallery.cache_bytes * 4 < 2 * 2**30
    urls = {settings.database_url.get_secret_value(), settings.gallery.database_url.get_secret_value()}
    account = service(plan)["template"][0]["service_account"]
    assert [make_url(url).username for url in urls] == [account.removesuffix(".gserviceaccount.com")]


def test_the_audience_is_the_services(galleries: dict[str, Plan], monkeypatch: pytest.MonkeyPatch) -> None:
    """The audience of the signed header has the form of Cloud Run's, with the planned service."""
    found = service(galleries["readme"])
    audience = settings_of(galleries["readme"], monkeypatch).gallery.iap_audience
    assert re.fullmatch(rf"/projects/\d+/locations/{found['location']}/services/{found['name']}", audience)


def test_rights_are_those_of_the_code(galleries: dict[str, Plan]) -> None:
    """With all scopes the rights on objects are those that the code of uploads, pictures and listings names."""
    code = "".join((ROOT / "dropline" / "storage" / f"{name}.py").read_text() for name in ("bucket", "listing"))
    assert set(re.findall(r'"(storage\.objects\.\w+)"', code)) == set(RIGHTS.values())
    (found,) = rights(galleries["readme"]).values()
    assert found == {RIGHTS["read"], RIGHTS["submit"]}
    assert {READER.role, SUBMITTER.role} == {"dropline_reader", "dropline_gallery"}


def test_alerts_watch_the_gallery(plan: Plan) -> None:
    """Errors of the planned service are an alert that docs/operate.md explains, and so are refused tasks."""
    text = (ROOT / "docs" / "operate.md").read_text()
    name = f'service_name="{service(plan)["name"]}"'
    found = {
        each.values["display_name"].partition(": ")[2]: json.dumps(each.values["conditions"]).replace(r"\"", '"')
        for each in plan.of("monitoring_alert_policy")
    }
    watched = {title for title, conditions in found.items() if name in conditions}
    assert watched == {"the gallery answers 5xx", "the workers are not woken"}
    assert [title for title in watched if f"| *{title}* |" not in text] == []


def test_the_gallery_is_made_after_what_it_needs(terraform: Terraform, sources: Path, tmp_path: Path) -> None:
    """Migrations, secrets and rights come before the gallery; a second plan is empty; a destroy ends clean."""
    copy = tmp_path / "terraform"
    shutil.copytree(sources, copy, symlinks=True)
    directory = write_root(copy, _GALLERIES["tokens"])
    (directory / "outputs.tf").unlink(missing_ok=True)
    variables = [f"-var={name}={value}" for name, value in EXAMPLES["minimal"].items()]
    options = ["-input=false", "-no-color", "-parallelism=4", f"-state={tmp_path / 'state'}", *variables]
    log = tmp_path / "log"
    terraform.run(directory, "apply", "-auto-approve", *options, STUB_LOG=str(log))
    terraform.run(directory, "plan", "-detailed-exitcode", *options)
    made = [
        f"{each['type']} {each['state'].get('name')}" for each in map(json.loads, log.read_text().splitlines())
    ]
    here = made.index("google_cloud_run_v2_service dropline-gallery")
    assert made.index("google_cloud_run_v2_job dropline-migrations") < here
    last_secret = max(
        index for index, each in enumerate(made) if each.startswith("google_secret_manager_secret_version")
    )
    assert last_secret < here
    terraform.run(directory, "destroy", "-auto-approve", *options)
