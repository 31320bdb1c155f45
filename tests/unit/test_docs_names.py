"""The names on the pages about the cloud exist in `terraform/` or in the code; settings on any page exist."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dropline.settings import variables
from tests.support.pages import CLOUD_PAGES, ROOT, code_of, each_page_of, pages

SETTINGS = {name for name, _, _ in variables()}
#: Resources created by hand on the page, and examples of names derived by Google.
_NOT_TERRAFORMS = {"dropline-door", "dropline-then", "dropline-us-central1", "dropline-function-00007-abc"}
#: Words of Google and of Postgres.
_OTHERS = {"cloud_run_job", "postgres_fdw"}


@cache
def terraform_code(folder: str = "terraform") -> str:
    """The text of all Terraform files below a folder."""
    return "\n".join(path.read_text() for path in sorted((ROOT / folder).rglob("*.tf")))


@cache
def root_variables() -> dict[str, str]:
    """The variables of the root module: name → declaration."""
    text = (ROOT / "terraform/variables.tf").read_text()
    return dict(re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL))


@cache
def root_outputs() -> set[str]:
    """The outputs of the root module."""
    return set(re.findall(r'^output "(\w+)"', (ROOT / "terraform/outputs.tf").read_text(), re.MULTILINE))


def argument_mistakes(body: str) -> Iterator[str]:
    """Yield module arguments without a variable, and attributes absent from the variable's declaration."""
    for module in re.findall(r'^module "dropline" \{\n(.*?)^\}', body, re.MULTILINE | re.DOTALL):
        for name, value in re.findall(r"^  (\w+) *= (.*)$", module, re.MULTILINE):
            declared = root_variables().get(name, "")
            if not declared and name != "source":
                yield f"there is no variable {name}"
            elif "object(" in declared:
                keys = re.findall(r"[{,] *(\w+) *=", value)
                yield from (f"{name} has no {key}" for key in keys if f" {key} " not in declared)


def address_mistakes(body: str) -> Iterator[str]:
    """Yield missing outputs and resources, addressed from the root module."""
    for output in re.findall(r"module\.dropline\.(?!module\b|google_)(\w+)", body):
        if output not in root_outputs():
            yield f"there is no output {output}"
    for module, kind, name in re.findall(r"module\.dropline\.(?:module\.(\w+)\.)?(google_\w+)\.(\w+)", body):
        folder = f"terraform/modules/{module}" if module else "terraform"
        if f'resource "{kind}" "{name}"' not in terraform_code(folder):
            yield f"there is no {kind}.{name} in {folder}"


def variable_mistakes(body: str) -> Iterator[str]:
    """Yield missing variables and attributes in a sentence: `variable = …` and `variable.attribute`."""
    for name, attribute in re.findall(r"\A([a-z_]+)\.([a-z_]+)\Z", body):
        if name in root_variables() and f" {attribute} " not in root_variables()[name]:
            yield f"{name} has no {attribute}"
    for name in re.findall(r"\A([a-z_]+) = ", body):
        if name not in root_variables() and f"{name} " not in terraform_code():
            yield f"there is no variable {name}"


@each_page_of(CLOUD_PAGES)
def test_names_of_terraform_exist(page: Path) -> None:
    """Variables, attributes, outputs and addresses on the pages exist in `terraform/`."""
    for code in code_of(page.read_text()):
        mistakes = [*argument_mistakes(code.body), *address_mistakes(code.body)]
        if code.inline:
            mistakes += variable_mistakes(code.body)
        assert mistakes == [], code.body


@cache
def cloud_names() -> set[str]:
    """The names of Terraform's resources, for `name = "dropline"`."""
    suffixes = re.findall(r"\$\{var\.name\}-([a-z][a-z-]*)", terraform_code())
    accounts = re.findall(r"^ {4}(\w+) += ", (ROOT / "terraform/accounts.tf").read_text(), re.MULTILINE)
    return {f"dropline-{suffix}" for suffix in {*suffixes, *accounts}}


def unknown_cloud_names(code: str) -> set[str]:
    """Names in code with Dropline's prefix and without a resource."""
    named = set(re.findall(r"(?<![\w/.-])(?<!PROJECT-)dropline-[a-z][a-z0-9-]*[a-z0-9]", code))
    return named - cloud_names() - _NOT_TERRAFORMS


@each_page_of(CLOUD_PAGES)
def test_names_in_the_cloud_are_those_that_terraform_gives(page: Path) -> None:
    """Every `dropline-…` in code is the name of a resource of `terraform/`."""
    assert unknown_cloud_names("\n".join(code.body for code in code_of(page.read_text()))) == set()


@cache
def our_words() -> set[str]:
    """Every word in the project's code and in Terraform's."""
    rooms = ("dropline", "trigger_fn", "worker", "db", "migrations", "terraform")
    files = [path for room in rooms for path in (ROOT / room).rglob("*") if path.suffix in {".py", ".tf"}]
    return {word for path in files for word in re.findall(r"\w+", path.read_text())}


def unknown_words(text: str) -> set[str]:
    """Words with underscores, within sentences, and absent from all code."""
    spans = {code.body for code in code_of(text) if code.inline}
    words = {span for span in spans if re.fullmatch(r"[a-z]+(_[a-z]+)+", span)} - _OTHERS
    # The name of a custom role begins with `dropline`.
    return {word for word in words if not {word, word.removeprefix("dropline")} & our_words()}


@each_page_of(CLOUD_PAGES)
def test_words_with_underscores_are_in_the_code(page: Path) -> None:
    """A word with underscores in a sentence, such as the log line `pool_woken`, is in the code."""
    assert unknown_words(page.read_text()) == set()


def test_every_alert_has_its_line() -> None:
    """docs/operate.md has exactly one line for each alert."""
    told = re.findall(r"^\| \*(.+?)\* \|", (ROOT / "docs/operate.md").read_text(), re.MULTILINE)
    assert sorted(told) == sorted(
        re.findall(r'\btitle += "(.+)"', terraform_code("terraform/modules/observability"))
    )


def unknown_settings(text: str) -> set[str]:
    """The unknown settings in a text; a prefix of settings, such as `DROPLINE_IMAGES__*`, is valid."""
    named = set(re.findall(r"DROPLINE_\w*[A-Z]\b", text))
    return {name for name in named if not any(s == name or s.startswith(f"{name}__") for s in SETTINGS)}


@each_page_of(pages())
def test_settings_exist(page: Path) -> None:
    """Each `DROPLINE_…` on a page is an existing setting."""
    assert unknown_settings(page.read_text()) == set()


# ---- controls: mistakes are found


@pytest.mark.parametrize(
    "body",
    [
        'module "dropline" {\n  frobnicate = 1\n}\n',
        'module "dropline" {\n  worker = { frobnicate = 1 }\n}\n',
        "module.dropline.frobnicate",
        "module.dropline.module.storage.google_storage_bucket.that",
        "module.dropline.google_storage_bucket.that",
        "worker.frobnicate",
        "frobnicate = true",
    ],
)
def test_a_wrong_name_of_terraforms_is_found(body: str) -> None:
    """Control: an unknown variable, attribute, output or resource is found."""
    assert [*argument_mistakes(body), *address_mistakes(body), *variable_mistakes(body)]


def test_other_wrong_names_are_found() -> None:
    """Control: an unknown resource name, log line or setting is found."""
    assert unknown_cloud_names("gcloud … dropline-frobnicator") == {"dropline-frobnicator"}
    assert unknown_words("look for `pool_frobnicated`") == {"pool_frobnicated"}
    assert unknown_settings("DROPLINE_BUKET, DROPLINE_EVENTS__BUCKET") == {
        "DROPLINE_BUKET",
        "DROPLINE_EVENTS__BUCKET",
    }
