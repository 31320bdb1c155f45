"""Task prompts and the other values exchanged between rooms."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline import errors
from dropline.contract import MAX_PROMPT_TEXT, Claim, ObjectVersion, Status, TaskPrompt, TaskRequest
from dropline.errors import DroplineError, InvalidTask

#: Text of the characters allowed in a prompt.
WORDS = (
    st.text(st.characters(exclude_characters="<>\x7f", exclude_categories=["Cs"], min_codepoint=0x20))
    .map(str.strip)
    .filter(lambda text: text and len(text.encode()) <= MAX_PROMPT_TEXT)
)
REGIONS = st.lists(st.integers(0, 999), min_size=4, max_size=4).map(
    lambda corners: "".join(f"<loc_{corner}>" for corner in corners)
)


@st.composite
def tasks(draw: st.DrawFn) -> TaskRequest:
    """Any valid task of Florence-2."""
    prompt = draw(st.sampled_from(TaskPrompt))
    if prompt.takes_text:
        return TaskRequest(prompt, draw(WORDS))
    return TaskRequest(prompt, draw(REGIONS) if prompt.takes_region else "")


@given(tasks())
def test_a_task_survives_being_written_down(task: TaskRequest) -> None:
    """The canonical spelling reads back as the same task."""
    assert TaskRequest.parse(str(task)) == task


@given(
    tasks(), st.sampled_from([str.lower, str.upper, str.title]), st.booleans(), st.sampled_from(["", " ", "\n"])
)
def test_a_task_may_be_spelt_as_people_do(task: TaskRequest, case: object, dashes: bool, space: str) -> None:
    """A task is parsed without brackets, in any case, with dashes and with spaces."""
    assert callable(case)
    bare = case(task.prompt.name)
    bare = bare.replace("_", "-") if dashes else bare
    colon = f":{space}{task.text}" if task.text else ""
    assert TaskRequest.parse(f"{space}{bare}{colon}{space}") == task


@given(st.text(st.characters()) | st.text("<>_:odOD cap", max_size=30))
def test_anything_else_is_refused_by_name(value: str) -> None:
    """Any text gives a task or InvalidTask; a task has valid UTF-8 and no control characters."""
    try:
        task = TaskRequest.parse(value)
    except InvalidTask:
        return
    assert TaskRequest.parse(str(task)) == task
    assert len(task.text.encode()) <= MAX_PROMPT_TEXT
    assert all(character >= " " for character in str(task))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("", "not a task"),
        ("<NOPE>", "use one of <CAPTION>, <DETAILED_CAPTION>"),
        ("a red car", "not a task"),
        ("<OD>cars", "takes no text"),
        ("<OPEN_VOCABULARY_DETECTION>", "needs text"),
        ("<OPEN_VOCABULARY_DETECTION>   ", "needs text"),
        ("<OPEN_VOCABULARY_DETECTION>a <loc_1>", "without <"),
        ("<OPEN_VOCABULARY_DETECTION>a\x00b", "control characters"),
        ("<OPEN_VOCABULARY_DETECTION>a\ud800b", "UTF-8"),
        ("<OPEN_VOCABULARY_DETECTION>" + "\N{CAT FACE}" * 126, "at most 500 bytes"),
        ("<REGION_TO_OCR>", "needs a box"),
        ("<REGION_TO_OCR><loc_1><loc_2><loc_3>", "needs a box"),
        ("<REGION_TO_OCR><loc_1><loc_2><loc_3><loc_1000>", "needs a box"),
    ],
)
def test_a_refusal_says_what_is_wrong(value: str, told: str) -> None:
    """Each kind of mistake has a separate message."""
    with pytest.raises(InvalidTask, match=told):
        TaskRequest.parse(value)


def test_which_states_are_ends() -> None:
    """Only queued and running rows have a status that is not final."""
    assert {status for status in Status if not status.is_terminal} == {Status.QUEUED, Status.RUNNING}


@given(attempt=st.integers(1, 100), lost=st.integers(0, 100), before=st.integers(0, 100))
def test_attempts_are_lost_ones_retries_and_this_one(attempt: int, lost: int, before: int) -> None:
    """Retries are the earlier attempts without lost attempts and attempts before a redrive, and never negative."""
    claim = Claim(1, ObjectVersion("b", "n", 1), TaskRequest(TaskPrompt.OD), attempt, lost, before)
    assert claim.retries == max(0, attempt - lost - 1 - before)


def test_a_version_is_written_as_gsutil_does() -> None:
    """The generation follows a `#`, and the name is unchanged."""
    assert ObjectVersion("b", "a #1/ü.jpg", 7).uri == "gs://b/a #1/ü.jpg#7"


def _error_types() -> list[type[DroplineError]]:
    found = [value for value in vars(errors).values() if isinstance(value, type)]
    return [kind for kind in found if issubclass(kind, DroplineError)]


@pytest.mark.parametrize("kind", _error_types())
def test_an_error_keeps_its_code_across_processes(kind: type[DroplineError]) -> None:
    """Type, message and code survive pickling."""
    copy = pickle.loads(pickle.dumps(kind("what happened", code="own_code")))
    assert (type(copy), str(copy), copy.code) == (kind, "what happened", "own_code")


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Every error type is in the docstring of the module `errors`, and has a unique code."""
    kinds = _error_types()
    assert all(kind.__name__ in (errors.__doc__ or "") for kind in kinds)
    assert len({kind.default_code for kind in kinds}) == len(kinds)
