"""docs/ask.md: the table of the tasks is that of the code."""

from pathlib import Path

from dropline.contract import TaskPrompt
from gallery.words import TASKS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "ask.md").read_text()
#: See `local_emulators/demo_model`.
_OF_THE_DEMO_MODEL = {TaskPrompt.CAPTION, TaskPrompt.DETAILED_CAPTION, TaskPrompt.OD}


def row_of(task: TaskPrompt) -> str:
    needs = "words" if task.takes_text else "a region" if task.takes_region else ""
    cells = (
        f"`{task.strip('<>').lower()}`",
        TASKS[task],
        needs,
        "yes" if task.gives_regions else "",
        "yes" if task in _OF_THE_DEMO_MODEL else "",
    )
    return f"| {' | '.join(cells)} |"


def test_each_task_has_a_row() -> None:
    """Name, name on the page, needed text, regions of the answer, and the demo model."""
    assert [line for line in PAGE.splitlines() if line in {row_of(task) for task in TaskPrompt}] == [
        row_of(task) for task in TaskPrompt
    ]
