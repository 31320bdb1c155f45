"""The commands on the pages exist, with their options: dropline, gcloud, terraform and `docker build`.

In CI terraform is required, as for tests/terraform. gcloud is optional, also in CI: the SDK is on no package index
and weighs hundreds of megabytes. Without the SDK the tests of gcloud skip.
"""

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cli.main import COMMANDS, load_command
from tests.support import gcloud_tree
from tests.support.dockerfile import read_dockerfile
from tests.support.pages import CLOUD_PAGES, ROOT, commands, each_page_of, pages

#: The flags used on the pages, from Docker's reference: the tests run without Docker.
_FLAGS_OF_DOCKER_BUILD = {"platform", "target", "tag", "build-arg"}

DROPLINE: dict[str, Any] = {name: load_command(name) for name in COMMANDS}


def dropline_mistake(words: Sequence[str]) -> str | None:
    """The mistake in `dropline WORDS…`, or None; a command in capitals is a placeholder."""
    name, options = words[0], [word.partition("=")[0] for word in words[1:] if word.startswith("--")]
    if name == "--help" or name.isupper():
        return None
    if name not in DROPLINE:
        return f"dropline has no command {name}"
    known = {"--help"}
    for parameter in DROPLINE[name].params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    return next((f"dropline {name} has no option {option}" for option in options if option not in known), None)


@each_page_of(pages())
def test_our_own_commands_exist(page: Path) -> None:
    """Each `dropline …` on a page is an existing command with existing options."""
    run = [words for words, _ in commands(page.read_text(), "dropline") if words]
    assert [told for words in run if (told := dropline_mistake(words))] == []


@each_page_of(CLOUD_PAGES)
def test_what_the_redrive_job_is_given_are_options_of_the_command(page: Path) -> None:
    """`--args=…` of the job's execution is a valid command line of `dropline redrive`."""
    executed = [words for words, _ in commands(page.read_text(), "gcloud") if "dropline-redrive" in words]
    given = [word.removeprefix("--args=") for words in executed for word in words if word.startswith("--args=")]
    assert [told for words in given if (told := dropline_mistake(["redrive", *words.split(",")]))] == []


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    """The SDK's commands."""
    found = gcloud_tree.load_tree()
    if found is None:
        pytest.skip("the Google Cloud SDK is not installed, so its commands are not known here")
    return found


@each_page_of(pages())
def test_commands_of_gcloud_exist(tree: dict[str, Any], page: Path) -> None:
    """Each `gcloud …` on a page is a command of the SDK with existing flags."""
    wrong = [
        (" ".join(words), told)
        for words, inline in commands(page.read_text(), "gcloud")
        if words and (told := gcloud_tree.mistake(tree, words, whole=not inline))
    ]
    assert wrong == []


@pytest.fixture
def terraform() -> None:
    """Skip without terraform; in CI fail."""
    if shutil.which("terraform") is None:
        message = "terraform is not installed, so its commands are not known here: put 1.9 or newer on the PATH"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


@cache
def terraform_help(*subcommand: str) -> str:
    """Terraform's help for a command; empty if terraform does not have the command."""
    done = subprocess.run(["terraform", *subcommand, "-help"], capture_output=True, text=True, check=False)
    return done.stdout if f"terraform [global options] {' '.join(subcommand)}" in done.stdout else ""


def terraform_mistake(words: Sequence[str]) -> str | None:
    """The mistake in `terraform WORDS…`, or None."""
    given = [word for word in words if not word.startswith("-chdir=")]
    subcommand = given[:2] if given[0] == "state" else given[:1]
    told = terraform_help(*subcommand)
    if not told:
        return f"terraform has no command {' '.join(subcommand)}"
    # The help of `apply` only refers to `plan` for the flags of both.
    told += terraform_help("plan") if subcommand == ["apply"] else ""
    flags = [word.partition("=")[0] for word in given if word.startswith("-")]
    return next((f"terraform {subcommand[0]} has no flag {flag}" for flag in flags if flag not in told), None)


@pytest.mark.usefixtures("terraform")
@each_page_of(CLOUD_PAGES)
def test_commands_of_terraform_exist(page: Path) -> None:
    """Each `terraform …` on a page is an existing command with existing flags."""
    run = [words for words, _ in commands(page.read_text(), "terraform") if words]
    assert [told for words in run if (told := terraform_mistake(words))] == []


def docker_build_mistake(words: Sequence[str]) -> str | None:
    """The mistake in `docker build WORDS…` according to our Dockerfile, or None."""
    given = [word.removeprefix("--").partition("=")[::2] for word in words if word.startswith("--")]
    target, dockerfile = dict(given).get("target", ""), read_dockerfile()
    if target not in dockerfile.stages:
        return f"the Dockerfile has no stage {target!r}"
    stages = [dockerfile.stages[name] for name in dockerfile.inputs(target)]
    taken = {name for stage in stages for argument in stage.all("ARG") for name in argument.pairs}
    wrong = {name for name, _ in given} - _FLAGS_OF_DOCKER_BUILD
    wrong |= {value.partition("=")[0] for name, value in given if name == "build-arg"} - taken
    return f"the build of {target} does not take {sorted(wrong)}" if wrong else None


@each_page_of(pages())
def test_what_docker_builds_is_in_the_dockerfile(page: Path) -> None:
    """Each `docker build …` on a page names an existing stage, and only arguments of the build."""
    run = [
        words for words, inline in commands(page.read_text(), "docker") if words[:1] == ["build"] and not inline
    ]
    assert [told for words in run if (told := docker_build_mistake(words[1:]))] == []


# ---- controls: mistakes are found


@pytest.mark.parametrize("words", [["frobnicate"], ["status", "--frobnicate"], ["drop", "x.jpg", "--waits"]])
def test_a_wrong_command_of_ours_is_found(words: list[str]) -> None:
    """Control: an unknown command and unknown options are found."""
    assert dropline_mistake(words)


@pytest.mark.parametrize(
    "line",
    [
        "storage frobnicate gs://b",
        "storage cp a gs://b --frobnicate",
        "sql instances",
        "run worker-pools update w --frobnicate=1",
        "sql instances patch d --no-storage-size",
        "compute firewall-rules create r --direction=SIDEWAYS",
    ],
)
def test_a_wrong_command_of_gclouds_is_found(tree: dict[str, Any], line: str) -> None:
    """Control: an unknown command, a group alone, unknown flags and an invalid value are found."""
    assert gcloud_tree.mistake(tree, line.split(), whole=True)


@pytest.mark.usefixtures("terraform")
@pytest.mark.parametrize("line", ["frobnicate", "apply -frobnicate=1", "state frobnicate"])
def test_a_wrong_command_of_terraforms_is_found(line: str) -> None:
    """Control: an unknown command and an unknown flag are found."""
    assert terraform_mistake(line.split())


@pytest.mark.parametrize(
    "line",
    ["--target=frobnicator .", "--frobnicate --target=function .", "--target=function --build-arg=EXTRAS=a ."],
)
def test_a_wrong_build_is_found(line: str) -> None:
    """Control: an unknown stage, an unknown flag, and an argument of another stage are found."""
    assert docker_build_mistake(line.split())


def test_the_pages_have_commands_to_check() -> None:
    """Control: commands of every program are found on the main page."""
    text = (ROOT / "docs" / "deploy.md").read_text()
    for program in ("gcloud", "terraform", "docker", "dropline"):
        assert len([words for words, inline in commands(text, program) if not inline]) >= 2, program


def test_commands_are_found_in_all_kinds_of_code() -> None:
    """Control: commands are found in fences, assignments, pipes, substitutions and sentences, not in output."""
    text = (
        "Say `p inline --x`.\n\n"
        "```sh\nA=1 p one --y='a b' | p two  # p not\nB=$(p three) && q p\np four - <<'END'\np not\nEND\n```\n\n"
        "```console\n$ p five\np not\n```\n\n"
        "    p six\n"
    )
    assert [words[0] for words, _ in commands(text, "p")] == [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "inline",
    ]
