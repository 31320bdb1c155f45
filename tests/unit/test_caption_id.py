"""The public id of a caption: reversible, one segment of a path, one id a caption."""

import base64
import contextlib
import string
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dropline.caption_id import MAX_LENGTH, decode, encode
from dropline.contract import MAX_PROMPT_TEXT, ObjectVersion, TaskPrompt, TaskRequest
from dropline.errors import InvalidCaptionId
from tests.unit.test_contract import tasks

BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]", fullmatch=True)
NAMES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: len(name.encode()) <= 1024 and name not in {".", ".."}
)
VERSIONS = st.builds(ObjectVersion, BUCKETS, NAMES, st.integers(1, 2**63 - 1))
CAPTION = TaskRequest(TaskPrompt.CAPTION)
CAT = ObjectVersion("photos", "cats/tom.jpg", 1_700_000_000_000_001)


@given(VERSIONS, tasks())
def test_an_id_gives_back_its_names(version: ObjectVersion, task: TaskRequest) -> None:
    """Bucket, object name, generation and task come back; the id needs no escapes in a path."""
    text = encode(version, task)
    assert decode(text) == (version, task)
    assert quote(text, safe="") == text
    assert len(text) <= MAX_LENGTH


@given(VERSIONS, tasks(), st.data())
def test_an_altered_id_is_no_id_of_the_same_caption(
    version: ObjectVersion, task: TaskRequest, data: st.DataObject
) -> None:
    """A changed character gives another caption or an error, so that a caption has one id."""
    text = encode(version, task)
    at = data.draw(st.integers(0, len(text) - 1))
    character = data.draw(
        st.sampled_from(string.ascii_letters + string.digits + "-_").filter(lambda c: c != text[at])
    )
    with contextlib.suppress(InvalidCaptionId):
        assert decode(text[:at] + character + text[at + 1 :]) != (version, task)


@given(st.text() | st.binary(max_size=60).map(lambda data: base64.urlsafe_b64encode(b"\1" + data).decode()))
@example("")
@example("..")
@example("a" * (MAX_LENGTH + 1))
@example(encode(CAT, CAPTION) + "=")
@example(encode(CAT, CAPTION) + "\n")
@example(" " + encode(CAT, CAPTION))
@example("\ud800")
def test_any_other_text_is_refused(text: str) -> None:
    """A text is an id that can be made again, or is refused in one line of ASCII."""
    refusal = ""
    try:
        assert encode(*decode(text)) == text
    except InvalidCaptionId as error:
        refusal = str(error)
    assert refusal.isascii()
    assert not refusal or refusal.isprintable()
    assert len(refusal) < 200


def forged(bucket: bytes = b"photos", name: bytes = b"a.png", task: bytes = b"<CAPTION>", version: int = 1) -> str:
    """An id with these bytes inside, unchecked."""
    head = bytes([version]) + (7).to_bytes(8) + bytes([len(bucket)]) + len(name).to_bytes(2)
    return base64.urlsafe_b64encode(head + bucket + name + task).rstrip(b"=").decode()


def test_a_forged_id_with_valid_names_is_the_id() -> None:
    """The control of the test below."""
    assert decode(forged()) == (ObjectVersion("photos", "a.png", 7), CAPTION)


@pytest.mark.parametrize(
    "text",
    [
        forged(version=2),
        forged(bucket=b"../photos"),
        forged(bucket=b"p"),
        forged(name=b""),
        forged(name=b".."),
        forged(name=b"a\0b"),
        forged(name=b"a\nb"),
        forged(name=b"\xff"),
        forged(name=b"n" * 1025),
        forged(task=b"<NONE>"),
        forged(task=b"od"),
        forged(task=b" <OD>"),
        forged(task=b"<OPEN_VOCABULARY_DETECTION>a<script>"),
        forged(task=b""),
    ],
)
def test_forged_names_are_refused(text: str) -> None:
    """No id has an impossible bucket, name or task, or another spelling of a task."""
    with pytest.raises(InvalidCaptionId):
        decode(text)


@pytest.mark.parametrize(
    ("version", "task"),
    [
        (ObjectVersion("photos", "\ud800.png", 1), CAPTION),
        (ObjectVersion("photos", "a.png", 0), CAPTION),
        (ObjectVersion("photos", "a.png", 2**63), CAPTION),
        (CAT, TaskRequest(TaskPrompt.CAPTION, "unexpected")),
    ],
)
def test_impossible_names_have_no_id(version: ObjectVersion, task: TaskRequest) -> None:
    """Values that no event and no request can bring are refused."""
    with pytest.raises(InvalidCaptionId):
        encode(version, task)


def test_the_longest_id_is_as_documented() -> None:
    """The longest bucket, name and text make the length that the documentation has."""
    longest = max(
        len(encode(ObjectVersion("b" * 222, "é" * 512, 2**63 - 1), TaskRequest(prompt, "w" * MAX_PROMPT_TEXT)))
        for prompt in TaskPrompt
        if prompt.takes_text
    )
    assert longest == MAX_LENGTH == 2391
