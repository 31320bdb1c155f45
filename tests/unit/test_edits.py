"""Captions of people, without services: their texts, their tags, and where they are found in metadata."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.caption_tag import caption_tag
from dropline.contract import METADATA_CAPTION, METADATA_MODEL, PERSON, TaskPrompt
from dropline.errors import CaptionUnusable
from dropline.object_metadata import own_caption
from dropline.storage.metadata import printable
from operations.edit import checked_caption, checked_name

_ANY_TEXT = st.text(st.characters(codec=None))


@given(_ANY_TEXT)
def test_a_checked_caption_can_be_stored_and_sent(text: str) -> None:
    """What passes is valid UTF-8 without NUL, has 1 to 8,192 bytes, and is the same when it is checked again."""
    try:
        words = checked_caption(text)
    except CaptionUnusable:
        return
    assert 1 <= len(words.encode()) <= 8192
    assert "\x00" not in words
    assert checked_caption(words) == words
    assert words in text
    assert not any(each in printable(words) for each in "\x00\n\r\t\x7f")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=2000).filter(str.strip))
def test_every_text_without_control_characters_passes(text: str) -> None:
    """No letter of any script is refused."""
    assert checked_caption(text).strip() == text.strip()


@given(_ANY_TEXT)
def test_a_name_can_be_stored(name: str) -> None:
    """It has 100 characters at most, on one line."""
    found = checked_name(name)
    found.encode()
    assert len(found) <= 100
    assert not set(found) & set(map(chr, range(9)))


@given(_ANY_TEXT, _ANY_TEXT)
def test_tags_tell_captions_apart(one: str, other: str) -> None:
    """Also those that cannot be stored; an empty caption is none."""
    assert (caption_tag(one) == caption_tag(other)) == (one == other)
    assert caption_tag(None) == caption_tag("")


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ({METADATA_CAPTION: "Grandma"}, "Grandma"),
        ({METADATA_CAPTION: "Grandma", METADATA_MODEL: PERSON}, "Grandma"),
        ({METADATA_CAPTION: "a woman", METADATA_MODEL: "florence"}, None),
        ({METADATA_CAPTION: " "}, None),
        ({METADATA_CAPTION: 7}, None),
        ({METADATA_MODEL: PERSON}, None),
        ({}, None),
        (None, None),
        ([METADATA_CAPTION], None),
    ],
)
def test_whose_caption_the_metadata_have(metadata: Any, expected: str | None) -> None:
    """A caption without a model, and one that a person has edited, is a person's."""
    assert own_caption(metadata) == expected


def test_three_tasks_ask_for_a_caption() -> None:
    """Only these are answered by a person's caption of the object."""
    assert [task.value for task in TaskPrompt if task.is_caption] == [
        "<CAPTION>",
        "<DETAILED_CAPTION>",
        "<MORE_DETAILED_CAPTION>",
    ]
