"""Florence-2 models of any size with random weights: processor, tokenizer, configuration and generation defaults.

The demo model is trained from such a model; a benchmark and the tests use random weights.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

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

#: BART's ids of its first tokens; BART's configuration refers to the ids.
TOKEN_IDS: dict[str, Any] = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
_FIRST_TOKENS = ["<s>", "<pad>", "</s>", "<unk>"]
_IMAGE_TOKEN = "<image>"  # noqa: S105  # a token of the vocabulary

#: `Florence2PostProcessor` rejects kinds of answers that are not listed; an empty entry selects its defaults.
POST_PROCESSING: dict[str, dict[str, Any]] = {
    "ocr": {},
    "phrase_grounding": {"banned_grounding_tokens": ["the image"]},
    "pure_text": {},
    "description_with_bboxes": {},
    "description_with_polygons": {},
    "polygons": {},
    "bboxes": {},
    "description_with_bboxes_or_polygons": {},
}


@dataclass(frozen=True)
class FlorenceShape:
    """The size of a model."""

    #: Pixels per side of the input.
    image_size: int
    #: Image tokens per side; one further token holds their mean.
    grid: int
    #: Width of the embeddings and of the projection.
    width: int
    #: Positions of the encoder and of the decoder.
    positions: int
    #: Further fields of `BartConfig`.
    text: dict[str, Any]
    #: Further fields of the vision configuration; the defaults are those of Florence-2-base.
    vision: dict[str, Any] = field(default_factory=dict)
    #: Rows of the embeddings; None: the length of the tokenizer.
    vocabulary: int | None = None


def build_tokenizer(corpus: Iterable[str], special_tokens: Iterable[str], **options: Any) -> BartTokenizer:
    """A byte-level BPE, trained on `corpus`, with the special tokens and the image token."""
    bpe = _train_bpe(corpus)
    # The annotation of `merges` says strings; the implementation takes pairs.
    merges: list[Any] = [tuple(pair) for pair in bpe["merges"]]
    return BartTokenizer(
        vocab=bpe["vocab"] | {"<mask>": len(bpe["vocab"])},
        merges=merges,
        image_token=_IMAGE_TOKEN,
        extra_special_tokens=[*special_tokens, _IMAGE_TOKEN],
        **options,
    )


def _train_bpe(corpus: Iterable[str]) -> dict[str, Any]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=1000,
        min_frequency=2,
        show_progress=False,
        special_tokens=_FIRST_TOKENS,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(corpus, trainer)
    model: dict[str, Any] = json.loads(tokenizer.to_str())["model"]
    return model


def build_processor(
    shape: FlorenceShape, tokenizer: BartTokenizer, post_processing: dict[str, dict[str, Any]] = POST_PROCESSING
) -> Florence2Processor:
    """The processor: images are stretched to a square, as in the released checkpoints."""
    square = {"height": shape.image_size, "width": shape.image_size}
    images = CLIPImageProcessorPil(
        size=square,
        crop_size=square,
        do_center_crop=False,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
        image_seq_length=shape.grid * shape.grid + 1,
    )
    return Florence2Processor(images, tokenizer, post_processor_config=post_processing)


def build_model(
    shape: FlorenceShape, tokenizer: BartTokenizer, **generation: Any
) -> Florence2ForConditionalGeneration:
    """A model with random weights of the current seed; `generation` are the defaults of generation."""
    text = BartConfig(
        vocab_size=shape.vocabulary or len(tokenizer),
        d_model=shape.width,
        max_position_embeddings=shape.positions,
        **shape.text,
    )
    config = Florence2Config(
        vision_config=shape.vision | {"projection_dim": shape.width},
        text_config=text.to_dict(),
        image_token_id=tokenizer.image_token_id,
        **TOKEN_IDS,
    )
    model = Florence2ForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        **TOKEN_IDS, decoder_start_token_id=2, forced_bos_token_id=0, **generation
    )
    return model


def transformer_layers(layers: int, heads: int, feed_forward: int) -> dict[str, int]:
    """The fields of `BartConfig` for an encoder and a decoder of the same size."""
    return {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (("layers", layers), ("attention_heads", heads), ("ffn_dim", feed_forward))
    }


#: That of the checkpoint `Florence-2-base-ft`.
BASE_SHAPE = FlorenceShape(
    image_size=768,
    grid=24,
    width=768,
    positions=1024,
    text=transformer_layers(6, 12, 3072),
    vocabulary=51_289,
)
#: That of the checkpoint `Florence-2-large-ft`.
LARGE_SHAPE = FlorenceShape(
    image_size=768,
    grid=24,
    width=1024,
    positions=4096,
    text=transformer_layers(12, 16, 4096),
    vision={
        "embed_dim": (256, 512, 1024, 2048),
        "num_heads": (8, 16, 32, 64),
        "num_groups": (8, 16, 32, 64),
    },
    vocabulary=51_289,
)
