"""Builds the untrained demo model: the real Florence-2 classes, small, with weights that can learn."""

import math
from typing import Any

import torch
from torch import nn
from transformers import (
    BartConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GenerationConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from tools.demo_model.scenes import LOCATION_BINS
from tools.demo_model.tokenizer import build_tokenizer

IMAGE_SIZE = 96
#: Image tokens per side, after strides of 4, 2, 2 and 1; one more token holds their mean.
GRID = 6
WIDTH = 192

# BART's own numbers, which the tokenizer keeps.
_TOKEN_IDS: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}

# `Florence2PostProcessor` refuses kinds of answer that are not listed; an empty entry means its own rules.
_POST_PROCESSING: dict[str, dict[str, Any]] = {
    "ocr": {},
    "phrase_grounding": {"banned_grounding_tokens": ["the image"]},
    "pure_text": {},
    "description_with_bboxes": {},
    "description_with_polygons": {},
    "polygons": {},
    "bboxes": {},
    "description_with_bboxes_or_polygons": {},
}


def build_processor() -> Florence2Processor:
    """The processor: pictures are stretched to a square, as with the released checkpoints."""
    square = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = CLIPImageProcessorPil(
        size=square,
        crop_size=square,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        image_seq_length=GRID * GRID + 1,
    )
    return Florence2Processor(images, build_tokenizer(), post_processor_config=_POST_PROCESSING)


def build_model(processor: Florence2Processor) -> Florence2ForConditionalGeneration:
    """An untrained model that fits the processor's vocabulary and image size."""
    tokenizer = processor.tokenizer
    config = Florence2Config(
        vision_config=_vision_config(),
        text_config=_text_config(len(tokenizer)).to_dict(),
        image_token_id=tokenizer.image_token_id,
        **_TOKEN_IDS,
    )
    model = Florence2ForConditionalGeneration(config)
    # The output layer is left out: it shares the embeddings' weights.
    model.model.apply(_initialise)
    _spread_locations(model, tokenizer.convert_tokens_to_ids("<loc_0>"))
    model.generation_config = _generation_config()
    return model


def _vision_config() -> dict[str, Any]:
    return {
        "depths": (1, 1, 2, 1),
        "embed_dim": (32, 64, 128, WIDTH),
        "num_heads": (1, 2, 4, 6),
        "num_groups": (1, 2, 4, 6),
        "patch_stride": (4, 2, 2, 1),
        "window_size": 6,
        "drop_path_rate": 0.0,
        "projection_dim": WIDTH,
    }


def _text_config(vocabulary: int) -> BartConfig:
    return BartConfig(
        vocab_size=vocabulary,
        d_model=WIDTH,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=6,
        decoder_attention_heads=6,
        encoder_ffn_dim=512,
        decoder_ffn_dim=512,
        max_position_embeddings=256,
        dropout=0.0,
    )


def _generation_config() -> GenerationConfig:
    # Captions repeat themselves ("a red circle and a red circle"), so no n-gram may be banned.
    return GenerationConfig(
        **_TOKEN_IDS,
        decoder_start_token_id=2,
        forced_bos_token_id=0,
        forced_eos_token_id=2,
        num_beams=1,
        no_repeat_ngram_size=0,
        max_new_tokens=64,
    )


def _initialise(module: nn.Module) -> None:
    # transformers' default deviation of 0.02 leaves so small a model blind to the picture for thousands of steps.
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
    if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
        nn.init.zeros_(module.bias)


@torch.no_grad()
def _spread_locations(model: Florence2ForConditionalGeneration, first: int) -> None:
    # Neighbouring positions start out alike, so that what is learned of one helps the next. The output layer is
    # tied to these embeddings, which makes its scores smooth over the positions too.
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    embeddings.weight[first : first + LOCATION_BINS] = _fourier_features(LOCATION_BINS, WIDTH)


def _fourier_features(count: int, width: int) -> torch.Tensor:
    places = torch.arange(count) / count
    waves = torch.exp(torch.linspace(math.log(0.25), math.log(25.0), width // 2)) * 2 * math.pi
    features = torch.cat([torch.sin(places[:, None] * waves), torch.cos(places[:, None] * waves)], dim=1)
    turn, _ = torch.linalg.qr(torch.randn(width, width))
    return features @ turn / (width / 2) ** 0.5
