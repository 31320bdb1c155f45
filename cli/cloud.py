"""`dropline cloud check`: the missing parts of a project in Google Cloud."""

import enum
from collections import Counter
from typing import Annotated, Any

import typer

from cli.console import print_json, print_line
from cli.exit_codes import ExitCode
from cli.options import Json
from operations.cloud_check.findings import Finding, Level, Plan
from operations.cloud_check.run import check


class Action(enum.StrEnum):
    """The uses of the command."""

    CHECK = "check"


def cloud(
    action: Annotated[Action, typer.Argument(help="`check`: read what the project lacks.")],
    project: Annotated[str, typer.Option(help="Id of the project.")],
    region: Annotated[str, typer.Option(help="Region of the deployment, such as `europe-west4`.")],
    name: Annotated[str, typer.Option(help="Prefix of all names: Terraform's variable `name`.")] = "dropline",
    gpus: Annotated[
        int, typer.Option(min=0, help="GPUs of the worker pool; 0: a trial on CPUs, which needs no quota.")
    ] = 1,
    state_bucket: Annotated[
        str,
        typer.Option(
            help="Bucket of Terraform's state, which may belong to another project. Default: the project's id and "
            "`-tfstate`, of this project."
        ),
    ] = "",
    tasks_region: Annotated[
        str,
        typer.Option(
            help="Region of the queue of Cloud Tasks: Terraform's `tasks_region`. Default: as in Terraform."
        ),
    ] = "",
    endpoint: Annotated[
        str, typer.Option(help="Address of a stand-in for Google's APIs, which gets no credentials; for tests.")
    ] = "",
    json: Json = False,
) -> None:
    """Check a project in Google Cloud before a deployment, reading only: `dropline cloud check`.

    Checks billing, services, your rights, the GPU quota, the regions, names that may be taken, and the
    organisation's policies. Each finding has the commands that mend it. The exit code is 1 if one of them blocks
    the deployment.
    """
    assert action is Action.CHECK
    plan = Plan(project, region, name, gpus, state_bucket, tasks_region)
    counts: Counter[Level] = Counter()
    found = []
    for finding in check(plan, endpoint):
        counts[finding.level] += 1
        found.append(finding)
        if not json:
            _print(finding)
    if json:
        print_json(_document(plan, found))
    else:
        print_line()
        print_line(f"{counts[Level.BLOCKED]} blocked, {counts[Level.WARNING]} warnings")
    if counts[Level.BLOCKED]:
        raise typer.Exit(ExitCode.FAILED)


def _print(finding: Finding) -> None:
    print_line(f"{finding.level:<8} {finding.part:<9} {finding.text}")
    for command in finding.commands:
        print_line(f"{'':<18}   $ {command}")


def _document(plan: Plan, found: list[Finding]) -> dict[str, Any]:
    return {
        "project": plan.project,
        "region": plan.region,
        "ready": all(each.level is not Level.BLOCKED for each in found),
        "findings": [
            {"level": each.level, "part": each.part, "text": each.text, "commands": list(each.commands)}
            for each in found
        ],
    }
