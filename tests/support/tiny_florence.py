"""A tiny Florence-2 checkpoint: the real classes with a few thousand random weights, built in a second."""

from pathlib import Path
from typing import Any

import torch
from transformers import Florence2Processor

from tools import florence_shapes
from tools.florence_shapes import POST_PROCESSING, FlorenceShape, build_model, build_tokenizer, transformer_layers

SHAPE = FlorenceShape(
    image_size=32,
    # After strides of 4 and 2.
    grid=4,
    width=32,
    positions=128,
    text=transformer_layers(1, 2, 64),
    vision={
        "depths": (1, 1),
        "embed_dim": (16, 32),
        "num_heads": (1, 2),
        "num_groups": (1, 2),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "window_size": 4,
        "drop_path_rate": 0.0,
    },
)
#: Pixels per side of the model's input.
SIZE = SHAPE.image_size
#: Tokens that fit into the encoder and into the decoder.
POSITIONS = SHAPE.positions

_QUAD = r"(.+?)" + r"<loc_(\d+)>" * 8


def build_processor() -> Florence2Processor:
    """The processor: a byte-level vocabulary, Florence-2's special tokens, a square image."""
    special = [f"<loc_{index}>" for index in range(1000)] + ["<sep>", "<poly>", "</poly>"]
    post_processing = POST_PROCESSING | {
        "ocr": {"PATTERN": _QUAD, "AREA_THRESHOLD": 0.0},
        "phrase_grounding": {"banned_grounding_tokens": ["it"]},
    }
    return florence_shapes.build_processor(SHAPE, build_tokenizer([], special), post_processing)


def save_checkpoint(directory: Path, processor: Florence2Processor | None = None) -> Path:
    """Write the checkpoint in the layout of the hub; returns the directory."""
    processor = processor or build_processor()
    torch.manual_seed(7)
    model = build_model(
        SHAPE, processor.tokenizer, num_beams=3, early_stopping=True, no_repeat_ngram_size=3, max_length=20
    )
    # Large weights: the answer must depend on the image and on the prompt.
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.xavier_normal_(weights, gain=2.0)
    embeddings: Any = model.get_input_embeddings()
    torch.nn.init.normal_(embeddings.weight, std=0.5)
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory
