"""Florence-2's output tokens as text, and as structure in pixels of the upright original."""

from typing import Any

import pytest
from transformers import Florence2Processor

from dropline.contract import Dimensions, TaskPrompt
from tests.support.tiny_florence import build_processor
from worker.engine.runtime.florence import parse_output

#: A location token spans two pixels across and one down.
ORIGINAL = Dimensions(width=2000, height=1000)
BOX = "<loc_10><loc_20><loc_30><loc_40>"
#: The middle of each location's pixels.
BOX_PIXELS = [21, 20, 61, 40]


@pytest.fixture(scope="module")
def processor() -> Florence2Processor:
    """The tiny checkpoint's processor: Florence-2's own class and output grammar."""
    return build_processor()


def _parse(processor: Florence2Processor, prompt: TaskPrompt, output: str) -> tuple[str, dict[str, Any] | None]:
    tokens = processor.tokenizer(f"</s><s>{output}</s><pad><pad>", add_special_tokens=False).input_ids
    return parse_output(processor, tokens, prompt, ORIGINAL)


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
    """The generated text without special tokens or padding, and no structure."""
    assert _parse(processor, prompt, "a café, 5 € — “open”") == ("a café, 5 € — “open”", None)


@pytest.mark.parametrize(
    ("prompt", "output", "text", "result"),
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
    processor: Florence2Processor, prompt: TaskPrompt, output: str, text: str, result: dict[str, Any]
) -> None:
    """Boxes, quadrilaterals and polygons with labels; the text is the labels."""
    assert _parse(processor, prompt, output) == (text, result)


@pytest.mark.parametrize("prompt", list(TaskPrompt))
def test_an_empty_output_stays_empty(processor: Florence2Processor, prompt: TaskPrompt) -> None:
    """An output without text gives an empty text and empty lists, for every task."""
    text, result = _parse(processor, prompt, "")
    assert text == ""
    assert not any((result or {}).values())
