"""A Florence-2 checkpoint that is built in a moment: the real classes, a few thousand random weights."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    BartConfig,
    BartTokenizer,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GenerationConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

#: Pixels per side of the model's input.
SIZE = 32
#: Image tokens per side, after strides of 4 and 2; one more token holds their mean.
_GRID = 4
#: Tokens the encoder and the decoder can hold.
POSITIONS = 128
_WIDTH = 32

_QUAD = r"(.+?)" + r"<loc_(\d+)>" * 8
_POST_PROCESSING: dict[str, dict[str, Any]] = {
    "ocr": {"PATTERN": _QUAD, "AREA_THRESHOLD": 0.0},
    "phrase_grounding": {"banned_grounding_tokens": ["it"]},
    "pure_text": {},
    "description_with_bboxes": {},
    "description_with_polygons": {},
    "polygons": {},
    "bboxes": {},
    "description_with_bboxes_or_polygons": {},
}


def build_processor() -> Florence2Processor:
    """The processor: a byte-level vocabulary, Florence-2's special tokens, a square picture."""
    square = {"height": SIZE, "width": SIZE}
    images = CLIPImageProcessorPil(
        size=square,
        crop_size=square,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        image_seq_length=_GRID * _GRID + 1,
    )
    return Florence2Processor(images, _build_tokenizer(), post_processor_config=_POST_PROCESSING)


def save_checkpoint(directory: Path, processor: Florence2Processor | None = None) -> Path:
    """Write the checkpoint as the hub would hold it; returns the directory."""
    processor = processor or build_processor()
    torch.manual_seed(7)
    model = Florence2ForConditionalGeneration(_config(processor.tokenizer))
    # Wide enough that the answer depends on the picture and on the prompt.
    for weights in model.parameters():
        if weights.dim() > 1:
            torch.nn.init.xavier_normal_(weights, gain=2.0)
    embeddings: Any = model.get_input_embeddings()
    torch.nn.init.normal_(embeddings.weight, std=0.5)
    model.generation_config = GenerationConfig(
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_bos_token_id=0,
        num_beams=3,
        early_stopping=True,
        no_repeat_ngram_size=3,
        max_length=20,
    )
    model.save_pretrained(directory)
    processor.save_pretrained(directory)
    return directory


def _build_tokenizer() -> BartTokenizer:
    tokenizer = Tokenizer(models.BPE())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(
        [],
        trainers.BpeTrainer(
            show_progress=False,
            special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
            initial_alphabet=alphabet,
        ),
    )
    vocabulary = tokenizer.get_vocab()
    special = [f"<loc_{index}>" for index in range(1000)] + ["<sep>", "<poly>", "</poly>", "<image>"]
    return BartTokenizer(
        vocab=vocabulary | {"<mask>": len(vocabulary)},
        merges=[],
        image_token="<image>",
        extra_special_tokens=special,
    )


def _config(tokenizer: Any) -> Florence2Config:
    text = BartConfig(
        vocab_size=len(tokenizer),
        d_model=_WIDTH,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=POSITIONS,
    )
    vision = {
        "depths": (1, 1),
        "embed_dim": (16, _WIDTH),
        "num_heads": (1, 2),
        "num_groups": (1, 2),
        "patch_size": (7, 3),
        "patch_stride": (4, 2),
        "patch_padding": (3, 1),
        "patch_prenorm": (False, True),
        "window_size": 4,
        "drop_path_rate": 0.0,
        "projection_dim": _WIDTH,
    }
    return Florence2Config(
        vision_config=vision,
        text_config=text.to_dict(),
        image_token_id=tokenizer.image_token_id,
    )
