"""The roots in the pages can be planned: each root is complete and sets existing variables."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import CLOUD_PAGES, code_of
from tests.terraform.workspace import PROJECT, Terraform, TerraformFailed, copy_sources

_SOURCE = '"../dropline/terraform"'
_LOCAL_STATE = 'terraform {\n  backend "local" {\n  }\n}\n'


def roots() -> Iterator[tuple[str, str]]:
    """Each block of HCL with the module, by page; the outputs of a page go with the page's first root."""
    for page in CLOUD_PAGES:
        blocks = [code.body for code in code_of(page.read_text()) if code.language == "hcl"]
        modules = [body for body in blocks if 'module "dropline"' in body]
        outputs = [body for body in blocks if 'module "dropline"' not in body]
        for number, body in enumerate(modules):
            yield f"{page.name} {number}", "\n".join([body, *(outputs if number == 0 else [])])


def plan(terraform: Terraform, directory: Path, body: str) -> None:
    """Plan a root beside a copy of `terraform/`.

    Raises:
        TerraformFailed: `body` is no root, or sets a variable that does not exist.
    """
    copy_sources(directory / "terraform")
    root = directory / "root"
    root.mkdir()
    provider = "" if "provider" in body else f'provider "google" {{\n  project = "{PROJECT}"\n}}\n'
    (root / "main.tf").write_text(provider + body.replace(_SOURCE, '"../terraform"'))
    (root / "backend_override.tf").write_text(_LOCAL_STATE)
    terraform.init(root)
    terraform.plan(root, {}, known=False)


@pytest.mark.parametrize("body", [body for _, body in roots()], ids=[name for name, _ in roots()])
def test_a_root_of_a_page_is_planned(terraform: Terraform, tmp_path: Path, body: str) -> None:
    """A root copied from a page can be planned."""
    assert _SOURCE in body
    plan(terraform, tmp_path, body)


def test_a_root_with_a_mistake_is_not(terraform: Terraform, tmp_path: Path) -> None:
    """Control: an attribute of the wrong type is refused."""
    _, body = next(roots())
    with pytest.raises(TerraformFailed):
        plan(terraform, tmp_path, body.replace('{ me = "me@example.org" }', "7"))
