"""Random weights in the shape of Florence-2-base: the work of the real checkpoint, without the hub."""

from pathlib import Path
from typing import Any

import torch

from dropline.settings import EngineSettings
from tools.demo_model.tokenizer import build_tokenizer
from tools.florence_shapes import FlorenceShape, build_model, build_processor, transformer_layers
from worker.engine.runtime.checkpoint import Checkpoint
from worker.engine.runtime.florence import FlorenceModel
from worker.engine.runtime.loading import choose_device, choose_dtype

_SHAPE = FlorenceShape(
    image_size=768,
    grid=24,
    width=768,
    positions=1024,
    text=transformer_layers(6, 12, 3072),
    vocabulary=51_289,
)


def random_florence(settings: EngineSettings, tokens: int) -> FlorenceModel:
    """A model that generates about `tokens` random tokens for every image.

    Raises:
        SettingsError: the device or dtype cannot be used.
    """
    device = choose_device(settings)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model: Any = build_model(_SHAPE, tokenizer, num_beams=3, early_stopping=True, no_repeat_ngram_size=3)
    model = model.to(device, choose_dtype(settings, device)).eval()
    processor = build_processor(_SHAPE, tokenizer, {})
    checkpoint = Checkpoint("random weights in the shape of Florence-2-base", Path(), "none")
    return FlorenceModel(model, processor, checkpoint, settings.model_copy(update={"max_new_tokens": tokens}))
