"""Florence-2-base's own tensor shapes through `--model DIR`, and what bfloat16 changes: logits and captions."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.settings import EngineSettings
from local_emulators.model import engine_variables
from tools.demo_model.evaluate import held_out_scenes, images_of
from tools.demo_model.scenes import LOCATION_STEP
from tools.demo_model.tokenizer import build_tokenizer
from tools.florence_shapes import BASE_SHAPE, build_model, build_processor
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import FlorenceModel, cpu_operations, normalisation
from worker.engine.runtime.loading import LoadedCheckpoint, load_florence, load_weights
from worker.engine.runtime.network.generation import Network
from worker.engine.runtime.network.text import Caches
from worker.engine.wire import CaptionRequest

#: All tensors of Florence-2-base, and a sixteenth of the pixels: a caption takes a second.
SHAPE = replace(BASE_SHAPE, image_size=192, grid=6)
TOKENS = 12
#: Largest difference of a logit in bfloat16, in standard deviations of the logits in float32.
BOUND = 0.1
SCENES = 50


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeded weights under the file names of the published checkpoint, in half precision as there."""
    directory = tmp_path_factory.mktemp("base-shape")
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    model: Any = build_model(SHAPE, tokenizer, num_beams=3, early_stopping=True, no_repeat_ngram_size=3)
    model.to(torch.float16).save_pretrained(directory)
    build_processor(SHAPE, tokenizer).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def settings(directory: Path) -> Iterator[EngineSettings]:
    """Of the engine of `dropline up --model DIRECTORY`, on one thread."""
    before = torch.get_num_threads()
    variables = engine_variables(str(directory))
    yield EngineSettings(
        checkpoint=variables["DROPLINE_ENGINE__CHECKPOINT"],
        device="cpu",
        dtype="float32",
        max_batch=1,
        max_new_tokens=TOKENS,
        threads=1,
    )
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def loaded(settings: EngineSettings) -> LoadedCheckpoint:
    return load_weights(settings, find_checkpoint(settings))


PIXELS = np.random.default_rng(1).integers(0, 256, (SHAPE.image_size, SHAPE.image_size, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def inputs(loaded: LoadedCheckpoint) -> Any:
    """As the processor of transformers makes them."""
    return loaded.processor(text="<CAPTION>", images=Image.fromarray(PIXELS), return_tensors="pt")


@pytest.fixture(scope="module")
def answer(loaded: LoadedCheckpoint, settings: EngineSettings) -> list[int]:
    """The tokens of the engine's own answer, the start token first."""
    model = FlorenceModel(loaded.model, loaded.processor, loaded.checkpoint, settings)
    request = CaptionRequest(PIXELS, TaskRequest(TaskPrompt.CAPTION), Dimensions(640, 480))
    (generated,) = model.generate([request])
    return generated.tokens


def test_the_published_file_names_are_enough(directory: Path) -> None:
    """No file beside those of the packaged checkpoint, and all weights in one file."""
    names = {file.name for file in directory.iterdir()}
    packaged = {file.name for file in find_checkpoint(EngineSettings(checkpoint="demo")).directory.iterdir()}
    assert names == packaged - {"README.md"}


def test_base_shape_answers_are_those_of_transformers(
    loaded: LoadedCheckpoint, settings: EngineSettings, inputs: Any, answer: list[int]
) -> None:
    """Greedy in float32, from a directory."""
    banned = FlorenceModel(loaded.model, loaded.processor, loaded.checkpoint, settings)._grammars.banned(
        [TaskPrompt.CAPTION]
    )
    expected = loaded.model.generate(
        **inputs, num_beams=1, early_stopping=False, do_sample=False, max_length=None, max_new_tokens=TOKENS,
        suppress_tokens=banned[0].nonzero().flatten().tolist(),
    )  # fmt: skip
    assert answer == expected[0].tolist()
    assert len({*answer}) > 3, "an answer of equal tokens would prove little"


def test_the_logits_of_bfloat16_stay_within_a_bound(
    loaded: LoadedCheckpoint, settings: EngineSettings, inputs: Any, answer: list[int]
) -> None:
    """Forced tokens: in float32 those of transformers, in bfloat16 within a bound."""
    with torch.inference_mode():
        forced = torch.tensor([answer])
        expected = loaded.model(**inputs, decoder_input_ids=forced).logits[0]
        own = forced_logits(loaded, inputs.input_ids[0], answer)
        in_bfloat16 = settings.model_copy(update={"dtype": "bfloat16"})
        low = forced_logits(load_weights(in_bfloat16, loaded.checkpoint), inputs.input_ids[0], answer)
    torch.testing.assert_close(own, expected, atol=2e-4, rtol=0)
    difference = float((low - expected).abs().max() / expected.std())
    assert 0 < difference < BOUND


def forced_logits(loaded: LoadedCheckpoint, ids: Tensor, tokens: list[int]) -> Tensor:
    """float32 `[tokens, vocabulary]` of the network behind each of the tokens."""
    images: Any = loaded.processor.image_processor
    scale, shift = normalisation(images.image_mean, images.image_std, images.rescale_factor, torch.device("cpu"))
    network = Network(
        loaded.model, loaded.processor.num_image_tokens, scale, shift, cpu_operations(loaded.model.dtype)
    )
    prompt = ids[network.image_tokens :][None]
    lengths = torch.tensor([network.image_tokens + prompt.shape[1]], dtype=torch.int32)
    first, cross = torch.tensor([0]), network.cross_caches(1)
    network.read(network.vision(torch.from_numpy(PIXELS)[None]), first, prompt, lengths, first, cross)
    keys, values = network.own_caches(1, len(tokens))
    ancestry = torch.zeros((1, len(tokens)), dtype=torch.int32)
    caches = Caches(keys, values, cross, lengths, ancestry)
    logits = [
        network.decoder.step(torch.tensor([token]), torch.tensor([position]), caches)
        for position, token in enumerate(tokens)
    ]
    return torch.cat(logits).float()


def answers_in(dtype: str, images: list[Image.Image], tasks: list[TaskPrompt]) -> list[Caption]:
    """The captions of the demo model: all tasks of an image in one pass."""
    settings = EngineSettings.model_validate(
        {"checkpoint": "demo", "device": "cpu", "dtype": dtype, "max_batch": len(tasks), "threads": 1}
    )
    model = load_florence(settings, find_checkpoint(settings))
    found: list[Caption] = []
    for image in images:
        square = image.convert("RGB").resize((model.input_size, model.input_size), Image.Resampling.BICUBIC)
        pixels = np.array(square)
        size = Dimensions(1000, 1000)
        captions = model.caption([CaptionRequest(pixels, TaskRequest(task), size) for task in tasks])
        found += [each for each in captions if isinstance(each, Caption)]
    return found


def test_captions_of_the_demo_scenes_are_the_same_in_bfloat16() -> None:
    """At least 99.5 % of the captions, and all boxes within one bin of the model's own grid."""
    images = images_of(held_out_scenes(SCENES))
    tasks = [TaskPrompt.CAPTION, TaskPrompt.DETAILED_CAPTION, TaskPrompt.OD]
    exact, low = (answers_in(dtype, images, tasks) for dtype in ("float32", "bfloat16"))
    assert len(exact) == len(low) == SCENES * len(tasks)
    pairs = list(zip(exact, low, strict=True))
    assert sum(one.text == other.text for one, other in pairs) >= 0.995 * len(pairs)
    boxes = [
        (one.result["bboxes"], other.result["bboxes"])
        for one, other in pairs
        if one.result and other.result and one.text == other.text
    ]
    assert boxes
    for one, other in boxes:
        np.testing.assert_allclose(one, other, rtol=0, atol=LOCATION_STEP)
