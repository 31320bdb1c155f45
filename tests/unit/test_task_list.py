"""The grammar of lists of tasks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.contract import TaskPrompt, TaskRequest
from dropline.errors import InvalidTask
from dropline.task_list import MAX_TASKS, parse_tasks, read_tasks, written

_WORDS = st.text(st.sampled_from("a cat,:_-.é"), min_size=1, max_size=20).filter(str.strip).map(str.strip)
_LOCATIONS = "<loc_1><loc_2><loc_3><loc_999>"


def _task(prompt: TaskPrompt, words: str) -> TaskRequest:
    if prompt.takes_region:
        return TaskRequest(prompt, _LOCATIONS)
    return TaskRequest(prompt, words if prompt.takes_text else "")


tasks = st.builds(_task, st.sampled_from(TaskPrompt), _WORDS)


@given(found=st.lists(tasks, min_size=1, max_size=MAX_TASKS, unique=True))
def test_a_written_list_is_read_again(found: list[TaskRequest]) -> None:
    """Words with commas and colons included."""
    assert parse_tasks(written(found)) == tuple(found)


@given(task=tasks, value=st.sampled_from(["{0}", " {0} "]))
def test_a_single_task_means_what_it_meant(task: TaskRequest, value: str) -> None:
    """Each text that is one task is a list of this task, so no older metadata and no older setting changes."""
    text = value.format(task)
    assert parse_tasks(text) == (TaskRequest.parse(text),)


@given(value=st.text(st.sampled_from("<>,: aOD_caption1"), max_size=40))
def test_every_text_has_tasks_or_errors(value: str) -> None:
    """No text is left without a word, and what is right is written canonically."""
    found = read_tasks(value)
    assert found.tasks or found.errors
    assert len(found.tasks) <= MAX_TASKS
    if found.tasks:
        assert parse_tasks(written(found.tasks)) == found.tasks


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("<CAPTION>, <OD>", ["<CAPTION>", "<OD>"]),
        ("caption,od , OCR", ["<CAPTION>", "<OD>", "<OCR>"]),
        ("<OD>,<OD>,<CAPTION>", ["<OD>", "<CAPTION>"]),
        ("<OPEN_VOCABULARY_DETECTION>a car, a cat, <OD>", ["<OPEN_VOCABULARY_DETECTION>a car, a cat", "<OD>"]),
        ("open_vocabulary_detection: a car, od", ["<OPEN_VOCABULARY_DETECTION>a car, od"]),
        ("od, open_vocabulary_detection: a car", ["<OD>", "<OPEN_VOCABULARY_DETECTION>a car"]),
        (f"<REGION_TO_OCR>{_LOCATIONS}, <OCR>", [f"<REGION_TO_OCR>{_LOCATIONS}", "<OCR>"]),
    ],
)
def test_lists(value: str, expected: list[str]) -> None:
    """Commas divide, except within the words of a task."""
    assert list(map(str, parse_tasks(value))) == expected


@pytest.mark.parametrize(
    ("value", "right", "wrong"),
    [
        ("<CAPTION>, <POEM>, <OD>", ["<CAPTION>", "<OD>"], 1),
        ("<CAPTION>,", ["<CAPTION>"], 1),
        ("<OD>a car, <OCR>", ["<OCR>"], 1),
        ("<OPEN_VOCABULARY_DETECTION>, <OD>", ["<OD>"], 1),
        ("<POEM>, sonnet", [], 2),
        ("", [], 1),
    ],
)
def test_a_wrong_entry_leaves_the_right_ones(value: str, right: list[str], wrong: int) -> None:
    """Each wrong entry has an error of its own."""
    found = read_tasks(value)
    assert (list(map(str, found.tasks)), len(found.errors)) == (right, wrong)
    with pytest.raises(InvalidTask):
        parse_tasks(value)


def test_a_list_is_bounded() -> None:
    """Tasks beyond the maximum are named in the error."""
    entries = [f"<OPEN_VOCABULARY_DETECTION>word {number}" for number in range(MAX_TASKS + 2)]
    found = read_tasks(", ".join(entries))
    assert list(map(str, found.tasks)) == entries[:MAX_TASKS]
    assert f"at most {MAX_TASKS} tasks" in found.errors[0]
    assert entries[-1] in found.errors[0]
