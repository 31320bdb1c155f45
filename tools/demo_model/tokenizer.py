"""The tokenizer of the demo model: Florence-2's class and special tokens, and a small vocabulary."""

import random
from collections.abc import Iterator

from transformers import BartTokenizer

from tools import florence_shapes
from tools.demo_model.scenes import COLOURS, LOCATION_BINS, SHAPES, TASKS, answer, sample_scene

#: Task prompt without text → the words that `Florence2Processor` gives the model instead.
PROMPTS = {
    "<OCR>": "What is the text in the image?",
    "<OCR_WITH_REGION>": "What is the text in the image, with regions?",
    "<CAPTION>": "What does the image describe?",
    "<DETAILED_CAPTION>": "Describe in detail what is shown in the image.",
    "<MORE_DETAILED_CAPTION>": "Describe with a paragraph what is shown in the image.",
    "<OD>": "Locate the objects with category name in the image.",
    "<DENSE_REGION_CAPTION>": "Locate the objects in the image, with their descriptions.",
    "<REGION_PROPOSAL>": "Locate the region proposals in the image.",
}

_PAIRED_TAGS = ("cap", "ncap", "dcap", "grounding", "seg")
_REGION_TAGS = ("region_cap", "region_to_desciption", "proposal", "poly")


def florence_tokens() -> list[str]:
    """Florence-2's additional special tokens, in the order of the released checkpoints.

    "desciption" is the spelling of the released checkpoints.
    """
    tokens = ["<od>", "</od>", "<ocr>", "</ocr>"]
    tokens += [f"<loc_{index}>" for index in range(LOCATION_BINS)]
    tokens += [token for tag in _PAIRED_TAGS for token in (f"<{tag}>", f"</{tag}>")]
    tokens += ["<sep>"]
    tokens += [token for tag in _REGION_TAGS for token in (f"<{tag}>", f"</{tag}>")]
    return [*tokens, "<and>"]


def build_tokenizer() -> BartTokenizer:
    """A byte-level BPE with one token for every word of the scenes and of the prompts."""
    return florence_shapes.build_tokenizer(_corpus(), florence_tokens(), model_max_length=1024)


def _corpus() -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(2000):
        scene = sample_scene(rng)
        yield from (answer(scene, task) for task in TASKS if task != "<OD>")
    for _ in range(20):
        yield from PROMPTS.values()
        yield from (f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
