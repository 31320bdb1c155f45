"""A plan refuses the same values as the code: tasks, names of settings, times of sleep."""

import json
import re
import subprocess
from itertools import product
from pathlib import Path

import pytest

from dropline.contract import TaskPrompt, TaskRequest
from dropline.errors import InvalidTask
from dropline.settings import PoolSettings, variables
from tests.terraform.conftest import EXAMPLES
from tests.terraform.workspace import SOURCES, Terraform, TerraformFailed, copy_sources

_BOX = "<loc_1><loc_22><loc_333><loc_4>"
_AFTER = (
    "",
    " ",
    "\n",
    "a car",
    " a car ",
    "ä, ö",
    "a\tcar",
    "a <b",
    "x" * 500,
    "x" * 501,
    _BOX,
    f" {_BOX}\n",
    _BOX[:-7],
)
_ENVIRONMENTS = ("variables.tf", "modules/function/variables.tf", "modules/worker/variables.tf")


def spellings(prompt: TaskPrompt) -> list[str]:
    """Right and wrong spellings of a prompt."""
    name = prompt.name
    return [
        *(
            f"<{name}>",
            f"<{name.lower()}>",
            f" {name}:",
            f"{name.lower()} :",
            f"{name.lower().replace('_', '-')}:",
        ),
        *(
            name,
            name.title(),
            f"<{name.replace('_', '-')}.>",
            f"<{name}",
            f"<{name[:-1]}>",
            f"{name}x:",
            f"_{name}",
        ),
    ]


def accepted(task: str) -> bool:
    """Whether the function starts with the task."""
    try:
        TaskRequest.parse(task)
    except InvalidTask:
        return False
    return True


def test_a_plan_takes_the_tasks_that_the_function_takes(terraform: Terraform, tmp_path: Path) -> None:
    """Plan and function agree on every prompt in every spelling, with and without a text or box as the input."""
    tasks = [f"{spelt}{after}" for prompt in TaskPrompt for spelt, after in product(spellings(prompt), _AFTER)]
    module = copy_sources(tmp_path / "terraform") / "modules" / "function"
    terraform.init(module)
    one = "anytrue([for each in local.task_patterns : can(regex(each, task))])"
    question = f'jsonencode([for task in jsondecode(file("tasks.json")) : {one}])'
    (module / "tasks.json").write_text(json.dumps(tasks))
    done = subprocess.run(
        [terraform.executable, "console"],
        cwd=module,
        env={**terraform.environment},
        input=question,
        capture_output=True,
        text=True,
        check=True,
    )
    answers = json.loads(json.loads(done.stdout))
    wrong = [task for task, answer in zip(tasks, answers, strict=True) if answer != accepted(task)]
    assert wrong == []
    assert {True, False} == set(answers)


def test_a_wrong_task_does_not_pass_the_plan(terraform: Terraform, sources: Path, tmp_path: Path) -> None:
    """A misspelt task of the root is refused before any resource is made."""
    main = sources / "examples" / "minimal" / "main.tf"
    assert "default_task" not in main.read_text()
    copy = copy_sources(tmp_path / "terraform")
    example = copy / "examples" / "minimal"
    changed = re.sub(r"(source\s+= .*\n)", r'\1  default_task = "<CAPTOIN>"\n', main.read_text(), count=1)
    (example / "main.tf").write_text(changed)
    terraform.init(example)
    with pytest.raises(TerraformFailed, match="Florence-2 knows no such task"):
        terraform.plan(example, EXAMPLES["minimal"])


@pytest.mark.parametrize("file", _ENVIRONMENTS)
def test_settings_are_of_groups_that_exist(file: str) -> None:
    """`environment` takes exactly the existing groups of settings, and every setting of the groups fits."""
    (pattern,) = re.findall(r'regex\("(\^DROPLINE_[^"]*)", name\)', (SOURCES / file).read_text())
    names = [name for name, _, _ in variables() if "__" in name]
    assert [name for name in names if not re.search(pattern, name)] == []
    groups = {name.removeprefix("DROPLINE_").partition("__")[0] for name in names}
    assert set(pattern[pattern.index("(") + 1 : pattern.index(")")].split("|")) == groups


@pytest.mark.parametrize(
    ("file", "value"), [("variables.tf", "worker_sleep"), ("modules/worker/variables.tf", "sleep")]
)
def test_times_of_sleep_are_those_of_the_settings(file: str, value: str) -> None:
    """Idle time, lease and time awake have the least values of the settings."""
    limits = PoolSettings.model_json_schema()["properties"]
    wanted = " && ".join(
        f"var.{value}.{name} "
        + (f">= {limit}" if (limit := limits[name].get("minimum")) else f"> {limits[name]['exclusiveMinimum']}")
        for name in ("idle_s", "lease_s", "awake_s")
    )
    assert wanted in (SOURCES / file).read_text()
