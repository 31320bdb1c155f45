"""The untrained demo model: the real Florence-2 classes, with a small configuration and initial weights."""

import math

import torch
from torch import nn
from transformers import Florence2ForConditionalGeneration, Florence2Processor

from tools import florence_shapes
from tools.demo_model.scenes import LOCATION_BINS
from tools.demo_model.tokenizer import build_tokenizer
from tools.florence_shapes import FlorenceShape, transformer_layers

SHAPE = FlorenceShape(
    image_size=96,
    # After strides of 4, 2, 2 and 1.
    grid=6,
    width=192,
    positions=256,
    text=transformer_layers(1, 6, 512) | {"decoder_layers": 2, "dropout": 0.0},
    vision={
        "depths": (1, 1, 2, 1),
        "embed_dim": (32, 64, 128, 192),
        "num_heads": (1, 2, 4, 6),
        "num_groups": (1, 2, 4, 6),
        "patch_stride": (4, 2, 2, 1),
        "window_size": 6,
        "drop_path_rate": 0.0,
    },
)


def build_processor() -> Florence2Processor:
    """The processor of the demo model."""
    return florence_shapes.build_processor(SHAPE, build_tokenizer())


def build_model(processor: Florence2Processor) -> Florence2ForConditionalGeneration:
    """An untrained model for the processor's vocabulary and image size."""
    tokenizer = processor.tokenizer
    # Captions repeat words ("a red circle and a red square"), so generation must not ban any n-gram.
    model = florence_shapes.build_model(
        SHAPE, tokenizer, forced_eos_token_id=2, num_beams=1, no_repeat_ngram_size=0, max_new_tokens=64
    )
    # Without the output layer, because the output layer shares the weights of the embeddings.
    model.model.apply(_initialise)
    _spread_locations(model, tokenizer.convert_tokens_to_ids("<loc_0>"))
    return model


def _initialise(module: nn.Module) -> None:
    # With transformers' default deviation of 0.02 a model of this size ignores the image for thousands of steps.
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
    # Neighbouring positions have similar initial embeddings, so learning one position helps the next. The output
    # layer shares the embeddings, so its scores are smooth over the positions too.
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    embeddings.weight[first : first + LOCATION_BINS] = _fourier_features(LOCATION_BINS, SHAPE.width)


def _fourier_features(count: int, width: int) -> torch.Tensor:
    places = torch.arange(count) / count
    waves = torch.exp(torch.linspace(math.log(0.25), math.log(25.0), width // 2)) * 2 * math.pi
    features = torch.cat([torch.sin(places[:, None] * waves), torch.cos(places[:, None] * waves)], dim=1)
    turn, _ = torch.linalg.qr(torch.randn(width, width))
    return features @ turn / (width / 2) ** 0.5
