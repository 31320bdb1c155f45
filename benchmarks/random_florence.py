"""Florence-2-base in shape and size, with random weights: as much work as the real one, where the hub is away."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    BartConfig,
    Florence2Config,
    Florence2ForConditionalGeneration,
    Florence2Processor,
    GenerationConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from dropline.settings import EngineSettings
from tools.demo_model.tokenizer import build_tokenizer
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import choose_device, choose_dtype

#: Pixels per side.
SIZE = 768
#: 24 by 24 image tokens, and one that holds their mean.
IMAGE_TOKENS = 577
_WIDTH = 768
_VOCABULARY = 51_289
_TOKEN_IDS: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}


def random_florence(settings: EngineSettings, tokens: int) -> FlorenceModel:
    """A model that writes about `tokens` tokens of nonsense for every image.

    Raises:
        SettingsError: the device or dtype cannot be used.
    """
    device = choose_device(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    processor = _processor()
    torch.manual_seed(0)
    model: Any = Florence2ForConditionalGeneration(_config(processor.tokenizer.image_token_id))
    model.generation_config = GenerationConfig(
        **_TOKEN_IDS,
        decoder_start_token_id=2,
        forced_bos_token_id=0,
        num_beams=3,
        early_stopping=True,
        no_repeat_ngram_size=3,
    )
    model = model.to(device, choose_dtype(settings, device)).eval()
    checkpoint = Checkpoint("random weights in the shape of Florence-2-base", Path(), "none")
    return FlorenceModel(model, processor, checkpoint, settings.model_copy(update={"max_new_tokens": tokens}))


def _processor() -> Florence2Processor:
    square = {"height": SIZE, "width": SIZE}
    images = CLIPImageProcessorPil(
        size=square,
        crop_size=square,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        image_seq_length=IMAGE_TOKENS,
    )
    return Florence2Processor(images, build_tokenizer(), post_processor_config={})


def _config(image_token_id: int) -> Florence2Config:
    text = BartConfig(
        vocab_size=_VOCABULARY,
        d_model=_WIDTH,
        encoder_layers=6,
        decoder_layers=6,
        encoder_attention_heads=12,
        decoder_attention_heads=12,
        encoder_ffn_dim=3072,
        decoder_ffn_dim=3072,
        max_position_embeddings=1024,
    )
    # The vision tower's defaults are those of Florence-2-base.
    return Florence2Config(
        vision_config={"projection_dim": _WIDTH},
        text_config=text.to_dict(),
        image_token_id=image_token_id,
        **_TOKEN_IDS,
    )
