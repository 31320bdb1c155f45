"""What Florence-2's tokens become: text, and structure in pixels of the upright original."""

from typing import Any

import pytest
from transformers import Florence2Processor

from dropline.contract import Dimensions, TaskPrompt
from tests.support.tiny_florence import build_processor
from worker.engine.runtime.answers import read_answer

#: A location token spans two pixels across and one down.
ORIGINAL = Dimensions(width=2000, height=1000)
BOX = "<loc_10><loc_20><loc_30><loc_40>"
#: The middle of each location's pixels.
BOX_PIXELS = [21, 20, 61, 40]


@pytest.fixture(scope="module")
def processor() -> Florence2Processor:
    """The tiny checkpoint's processor: Florence-2's own class and grammar."""
    return build_processor()


def _read(processor: Florence2Processor, prompt: TaskPrompt, said: str) -> tuple[str, dict[str, Any] | None]:
    tokens = processor.tokenizer(f"</s><s>{said}</s><pad><pad>", add_special_tokens=False).input_ids
    return read_answer(processor, tokens, prompt, ORIGINAL)


@pytest.mark.parametrize(
    "prompt",
    [
        TaskPrompt.CAPTION,
        TaskPrompt.DETAILED_CAPTION,
        TaskPrompt.MORE_DETAILED_CAPTION,
        TaskPrompt.OCR,
        TaskPrompt.REGION_TO_CATEGORY,
        TaskPrompt.REGION_TO_DESCRIPTION,
        TaskPrompt.REGION_TO_OCR,
    ],
)
def test_plain_text_is_text_alone(processor: Florence2Processor, prompt: TaskPrompt) -> None:
    """The words as said, without special tokens or padding, and no structure."""
    assert _read(processor, prompt, "a café, 5 € — “open”") == ("a café, 5 € — “open”", None)


@pytest.mark.parametrize(
    ("prompt", "said", "text", "result"),
    [
        (
            TaskPrompt.OD,
            f"car{BOX}{BOX}dog{BOX}",
            "car, car, dog",
            {"bboxes": [BOX_PIXELS] * 3, "labels": ["car", "car", "dog"]},
        ),
        (
            TaskPrompt.DENSE_REGION_CAPTION,
            f"a red car{BOX}",
            "a red car",
            {"bboxes": [BOX_PIXELS], "labels": ["a red car"]},
        ),
        (
            TaskPrompt.CAPTION_TO_PHRASE_GROUNDING,
            f"A car{BOX}a dog{BOX}",
            "A car, a dog",
            {"bboxes": [BOX_PIXELS] * 2, "labels": ["A car", "a dog"]},
        ),
        (TaskPrompt.REGION_PROPOSAL, BOX * 2, "", {"bboxes": [BOX_PIXELS] * 2, "labels": ["", ""]}),
        (
            TaskPrompt.OCR_WITH_REGION,
            f"STOP{BOX}{BOX}",
            "STOP",
            {"quad_boxes": [BOX_PIXELS * 2], "labels": ["STOP"]},
        ),
        (
            TaskPrompt.REFERRING_EXPRESSION_SEGMENTATION,
            f"{BOX}<loc_50><loc_60>",
            "",
            {"polygons": [[[*BOX_PIXELS, 101, 60]]], "labels": [""]},
        ),
        (
            TaskPrompt.REGION_TO_SEGMENTATION,
            f"{BOX}<loc_50><loc_60>",
            "",
            {"polygons": [[[*BOX_PIXELS, 101, 60]]], "labels": [""]},
        ),
        (
            TaskPrompt.OPEN_VOCABULARY_DETECTION,
            f"a car{BOX}",
            "a car",
            {"bboxes": [BOX_PIXELS], "bboxes_labels": ["a car"], "polygons": [], "polygons_labels": []},
        ),
        (
            TaskPrompt.OPEN_VOCABULARY_DETECTION,
            f"a car<poly>{BOX}<loc_50><loc_60></poly>",
            "a car",
            {
                "bboxes": [],
                "bboxes_labels": [],
                "polygons": [[[*BOX_PIXELS, 101, 60]]],
                "polygons_labels": ["a car"],
            },
        ),
    ],
)
def test_structure_is_in_pixels_of_the_original(
    processor: Florence2Processor, prompt: TaskPrompt, said: str, text: str, result: dict[str, Any]
) -> None:
    """Boxes, quadrilaterals and polygons with their labels; the text is the labels."""
    assert _read(processor, prompt, said) == (text, result)


@pytest.mark.parametrize("prompt", list(TaskPrompt))
def test_nothing_is_invented(processor: Florence2Processor, prompt: TaskPrompt) -> None:
    """A model that says nothing gives an empty text and empty lists, for every task."""
    text, result = _read(processor, prompt, "")
    assert text == ""
    assert not any((result or {}).values())
