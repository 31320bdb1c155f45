"""The tokenizer of the demo model: Florence-2's own class and special tokens over a small vocabulary."""

import json
import random
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import BartTokenizer

from tools.demo_model.scenes import COLOURS, LOCATION_BINS, SHAPES, TASKS, answer, sample_scene

_IMAGE = "<image>"

#: What `Florence2Processor` asks in place of each task token that takes no text.
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

# BART's first four ids, which its configuration refers to by number.
_FIRST_TOKENS = ("<s>", "<pad>", "</s>", "<unk>")
_PAIRED_TAGS = ("cap", "ncap", "dcap", "grounding", "seg")
_REGION_TAGS = ("region_cap", "region_to_desciption", "proposal", "poly")


def florence_tokens() -> list[str]:
    """Florence-2's additional special tokens in the order of the released checkpoints.

    "desciption" is spelt as they spell it.
    """
    tokens = ["<od>", "</od>", "<ocr>", "</ocr>"]
    tokens += [f"<loc_{index}>" for index in range(LOCATION_BINS)]
    tokens += [token for tag in _PAIRED_TAGS for token in (f"<{tag}>", f"</{tag}>")]
    tokens += ["<sep>"]
    tokens += [token for tag in _REGION_TAGS for token in (f"<{tag}>", f"</{tag}>")]
    return [*tokens, "<and>"]


def build_tokenizer() -> BartTokenizer:
    """A byte-level BPE in which every word of the scenes and of the prompts is one token."""
    bpe = _train_bpe()
    vocabulary = bpe["vocab"] | {"<mask>": len(bpe["vocab"])}
    merges: Any = [tuple(pair) for pair in bpe["merges"]]
    return BartTokenizer(
        vocab=vocabulary,
        merges=merges,
        model_max_length=1024,
        image_token=_IMAGE,
        extra_special_tokens=[*florence_tokens(), _IMAGE],
    )


def _train_bpe() -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=2,
        show_progress=False,
        special_tokens=list(_FIRST_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(_corpus(), trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def _corpus() -> Iterator[str]:
    rng = random.Random(0)
    for _ in range(2000):
        scene = sample_scene(rng)
        yield from (answer(scene, task) for task in TASKS if task != "<OD>")
    for _ in range(20):
        yield from PROMPTS.values()
        yield from (f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)
