"""A small, untrained Florence-2: the engine's captions equal those of transformers, image by image."""

import contextlib
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import Florence2ForConditionalGeneration

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed, SettingsError
from dropline.settings import EngineSettings, LogSettings
from tests.support.tiny_florence import POSITIONS, SHAPE, SIZE, build_processor, save_checkpoint
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine.runtime.answers import is_repetitive
from worker.engine.runtime.batcher import run_with_bisection
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import FlorenceModel, Generated, normalisation
from worker.engine.runtime.loading import load_florence
from worker.engine.runtime.model import BatchTooLarge
from worker.engine.runtime.network.slots import GreedySlots
from worker.engine.runtime.network.text import Decoder
from worker.engine.wire import CaptionRequest

DEADLINE_S = 300.0
WITHOUT_REGIONS = {
    TaskPrompt.CAPTION,
    TaskPrompt.DETAILED_CAPTION,
    TaskPrompt.MORE_DETAILED_CAPTION,
    TaskPrompt.OCR,
    TaskPrompt.REGION_TO_CATEGORY,
    TaskPrompt.REGION_TO_DESCRIPTION,
    TaskPrompt.REGION_TO_OCR,
}
WITH_POLYGONS = {
    TaskPrompt.REFERRING_EXPRESSION_SEGMENTATION,
    TaskPrompt.REGION_TO_SEGMENTATION,
    TaskPrompt.OPEN_VOCABULARY_DETECTION,
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a complete checkpoint."""
    return save_checkpoint(tmp_path_factory.mktemp("tiny-florence"))


def _settings(checkpoint: Path, **others: Any) -> EngineSettings:
    # Float32, so that a sum taken in another order does not tip a beam over.
    values = {
        "checkpoint": str(checkpoint),
        "dtype": "float32",
        "max_new_tokens": 16,
        "num_beams": 3,
        "threads": 1,
    }
    values |= others
    return EngineSettings.model_validate(values)


def _load(checkpoint: Path, **others: Any) -> FlorenceModel:
    settings = _settings(checkpoint, **others)
    return load_florence(settings, find_checkpoint(settings))


@pytest.fixture(scope="module")
def reference(checkpoint: Path) -> Any:
    """The checkpoint in transformers' own class; its `generate` has annotations that refuse its arguments."""
    return Florence2ForConditionalGeneration.from_pretrained(checkpoint, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def florence(checkpoint: Path) -> FlorenceModel:
    """The checkpoint, loaded."""
    return _load(checkpoint)


def _request(prompt: TaskPrompt) -> TaskRequest:
    if prompt.takes_text:
        return TaskRequest(prompt, "a {red} car")
    return TaskRequest(prompt, "<loc_1><loc_22><loc_333><loc_999>" if prompt.takes_region else "")


@pytest.fixture(scope="module")
def requests() -> list[CaptionRequest]:
    """One image for each of the task prompts, all different."""
    random = np.random.default_rng(3)
    return [
        CaptionRequest(
            random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8),
            _request(prompt),
            Dimensions(640 + number, 480),
        )
        for number, prompt in enumerate(TaskPrompt)
    ]


def _one_by_one(reference: Any, florence: FlorenceModel, item: CaptionRequest) -> Any:
    """The model card's example, with the whole processor."""
    processor = florence._processor
    impossible = _impossible_tokens(processor, item.task.prompt)
    tokens = _tokens_of_reference(reference, florence, item, num_beams=3, suppress_tokens=impossible)
    text = processor.decode(tokens, skip_special_tokens=False)
    size = (item.original.width, item.original.height)
    return processor.post_process_generation(text, task=item.task.prompt.value, image_size=size)[
        item.task.prompt.value
    ]


def _impossible_tokens(processor: Any, prompt: TaskPrompt) -> list[int]:
    """Ids of the tokens that an answer to this task prompt cannot contain, from the spelling of the tokens."""
    if prompt is TaskPrompt.REGION_PROPOSAL:
        possible = r"<loc_\d+>|<sep>"
    elif prompt in WITHOUT_REGIONS:
        possible = r"(?!<(loc_\d+|sep|poly|/poly|image|pad|unk|mask)>).*"
    elif prompt in WITH_POLYGONS:
        possible = r"(?!<(image|pad|unk|mask)>).*"
    else:
        possible = r"(?!<(poly|/poly|image|pad|unk|mask)>).*"
    return [
        number
        for token, number in processor.tokenizer.get_vocab().items()
        if token not in ("<s>", "</s>") and not re.fullmatch(possible, token, re.DOTALL)
    ]


def test_every_task_in_one_batch_equals_one_image_at_a_time(
    reference: Any, florence: FlorenceModel, requests: list[CaptionRequest]
) -> None:
    """All 15 task prompts, mixed and padded in one batch, give the same captions as alone."""
    answers = florence.caption(requests)
    for item, answer in zip(requests, answers, strict=True):
        expected = _one_by_one(reference, florence, item)
        assert isinstance(answer, Caption)
        assert (answer.result or answer.text) == expected, item.task
    rows = _generate(florence, requests)
    assert len({tuple(row) for row in rows}) == len(requests), "equal outputs would prove no order"


def _generate(florence: FlorenceModel, requests: list[CaptionRequest]) -> list[list[int]]:
    return [answer.tokens for answer in florence.generate(requests)]


@pytest.mark.parametrize("beams", [1, 3])
def test_no_answer_has_a_token_that_its_task_cannot_contain(
    checkpoint: Path, reference: Any, requests: list[CaptionRequest], beams: int
) -> None:
    """A caption has no coordinates, and a proposal no words; without the rules, this model generates both."""
    florence = _load(checkpoint, num_beams=beams)
    rows = _generate(florence, requests)
    for item, row in zip(requests, rows, strict=True):
        end = row.index(2, 1) if 2 in row[1:] else len(row)
        assert not {*row[1:end]} & {*_impossible_tokens(florence._processor, item.task.prompt)}, item.task
    captions = [item for item in requests if item.task.prompt in WITHOUT_REGIONS]
    free = [_tokens_of_reference(reference, florence, item, num_beams=beams) for item in captions]
    coordinates = {number for token, number in _vocabulary(florence) if token.startswith("<loc_")}
    assert any({*row} & coordinates for row in free)


def _tokens_of_reference(
    reference: Any, florence: FlorenceModel, item: CaptionRequest, **options: Any
) -> list[int]:
    inputs = florence._processor(text=str(item.task), images=Image.fromarray(item.pixels), return_tensors="pt")
    options |= {"do_sample": False, "max_new_tokens": 16, "max_length": None}
    tokens: list[int] = reference.generate(**inputs, **options)[0].tolist()
    return tokens


def _vocabulary(florence: FlorenceModel) -> list[tuple[str, int]]:
    vocabulary: dict[str, int] = florence._processor.tokenizer.get_vocab()
    return [*vocabulary.items()]


def test_one_image_without_finite_logits_fails_alone(
    florence: FlorenceModel, requests: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image has a code of its own, and the neighbours in the batch have the captions that they have alone."""
    expected = [florence.caption([item])[0] for item in requests[:3]]

    step = Decoder.step

    def overflow(decoder: Decoder, *arguments: Any) -> torch.Tensor:
        logits = step(decoder, *arguments)
        beams = len(logits) // 3
        logits[beams : 2 * beams] = torch.nan
        return logits

    monkeypatch.setattr(Decoder, "step", overflow)
    first, broken, third = florence.caption(requests[:3])
    assert (first, third) == (expected[0], expected[2])
    assert isinstance(broken, InferenceFailed)
    assert broken.code == "non_finite_logits"


def test_a_model_without_finite_logits_is_refused_at_the_start(checkpoint: Path, tmp_path: Path) -> None:
    """No image is set aside for a model that is broken for all of them."""
    weights = load_file(checkpoint / "model.safetensors")
    weights["model.language_model.shared.weight"].fill_(torch.nan)
    copy = shutil.copytree(checkpoint, tmp_path / "broken")
    save_file(weights, copy / "model.safetensors", {"format": "pt"})
    florence = _load(copy)
    with pytest.raises(SettingsError, match="DROPLINE_ENGINE__DTYPE=float32"):
        florence.warmup()


def test_an_answer_that_repeats_itself_up_to_the_limit_is_no_caption(
    checkpoint: Path, requests: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """This model can only generate one word and `<s>`; a repetitive answer that ends before the limit stays."""
    florence = _load(checkpoint, max_new_tokens=100, num_beams=1)
    word = florence._processor.tokenizer.convert_tokens_to_ids("a")
    _allow(florence, monkeypatch, 0, word)
    generator = florence._generator
    assert isinstance(generator, GreedySlots)
    monkeypatch.setattr(generator._search, "rules", replace(florence._rules, ngram=0))
    (answer,) = florence.caption([_with_task(requests[0], TaskPrompt.CAPTION)])
    assert isinstance(answer, InferenceFailed)
    assert answer.code == "repetitive_answer"
    ended = Generated([2, 0, *[word] * 60, 2, 1, 1], broken=False)
    assert isinstance(florence.postprocess(ended, requests[0]), Caption)


def _allow(florence: FlorenceModel, monkeypatch: pytest.MonkeyPatch, *tokens: int) -> None:
    """Leave only these tokens to the answers of every task."""
    banned = torch.ones_like(florence._grammars._banned)
    banned[:, list(tokens)] = False
    monkeypatch.setattr(florence._grammars, "_banned", banned)


def _with_task(item: CaptionRequest, prompt: TaskPrompt) -> CaptionRequest:
    return CaptionRequest(item.pixels, TaskRequest(prompt), item.original)


def test_long_answers_of_many_words_digits_or_boxes_are_no_repetition() -> None:
    """A page of text, a table of digits and a crowd of boxes compress less than a sentence again and again."""
    random = Random(7)
    page = [int(random.paretovariate(0.7)) % 50_000 for _ in range(1023)]
    digits = [random.randrange(10) if place % 3 else 220 for place in range(1023)]
    boxes = [
        token
        for _ in range(200)
        for token in (random.choice([500, 600]), *(50_269 + random.randrange(1000) for _ in range(4)))
    ]
    sentence = [random.randrange(50_000) for _ in range(30)] * 34
    assert [is_repetitive(tokens) for tokens in (page, digits, boxes)] == [False] * 3
    assert [is_repetitive(tokens) for tokens in (sentence, [970] * 1023)] == [True] * 2


def test_prompts_and_pixels_equal_the_processor_s(florence: FlorenceModel, requests: list[CaptionRequest]) -> None:
    """Pixels are rescaled and normalised as by the processor, and prompts have the processor's tokens."""
    images = florence._processor.image_processor
    scale, shift = normalisation(images.image_mean, images.image_std, images.rescale_factor, torch.device("cpu"))
    for item in requests:
        theirs = florence._processor(text=str(item.task), images=Image.fromarray(item.pixels), return_tensors="pt")
        values = (torch.from_numpy(item.pixels) * scale + shift).permute(2, 0, 1)
        torch.testing.assert_close(values, theirs["pixel_values"][0], atol=1e-5, rtol=1e-5)
        image, prompt = [florence._processor.image_token_id] * (SHAPE.grid**2 + 1), florence._prompt_ids(item.task)
        assert image + prompt == theirs["input_ids"][0].tolist()


def test_a_prompt_that_is_too_long_fails_alone(florence: FlorenceModel, requests: list[CaptionRequest]) -> None:
    """A prompt longer than the model's positions never reaches the device; the other requests are captioned."""
    long = TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "x" * POSITIONS)
    batch = [requests[0], CaptionRequest(requests[1].pixels, long, requests[1].original), requests[2]]
    outcomes = [outcome for _, outcome in run_with_bisection(batch, florence.caption, florence.probe)]
    assert isinstance(outcomes[0], Caption)
    assert isinstance(outcomes[1], InferenceFailed)
    assert "shorten the text" in str(outcomes[1])
    assert isinstance(outcomes[2], Caption)


def test_the_longest_output_fits_the_model(
    checkpoint: Path, requests: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `max_new_tokens` above its positions, the model stops at its own limit instead of failing."""
    florence = _load(checkpoint, max_new_tokens=4096, num_beams=1)
    every = range(florence._grammars._banned.shape[1])
    _allow(florence, monkeypatch, *(number for number in every if number != 2))
    rows = _generate(florence, requests[:2])
    assert max(map(len, rows)) == POSITIONS


def test_memory_that_runs_out_is_no_image_s_fault(
    florence: FlorenceModel, requests: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's error becomes BatchTooLarge, which keeps no tensors alive."""

    def out_of_memory(_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    monkeypatch.setattr(florence, "_generator", out_of_memory)
    with pytest.raises(BatchTooLarge, match="3 GiB") as caught:
        florence.caption(requests)
    assert caught.value.__context__ is None


def test_a_processor_without_all_tasks_is_refused(tmp_path: Path) -> None:
    """A processor without the output grammar of a task is refused at the start, not at the first image."""
    processor = build_processor()
    assert processor.post_processor_config
    del processor.post_processor_config["ocr"]
    florence = _load(save_checkpoint(tmp_path, processor))
    with pytest.raises(SettingsError, match="OCR_WITH_REGION"):
        florence.warmup()


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    """The error names the model type in the directory."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises(SettingsError, match="'clip'"):
        _load(tmp_path)


@pytest.mark.parametrize("beams", [1, 3])
def test_the_process_captions_as_the_model_does(
    checkpoint: Path, requests: list[CaptionRequest], beams: int
) -> None:
    """The captions through shared memory and socket are the model's, asked one at a time and all at once.

    Greedy ones join others in mid-flight. A prompt that is too long fails alone.
    """
    florence = _load(checkpoint, num_beams=beams)
    expected = [florence.caption([item])[0] for item in requests]
    long = TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "x" * POSITIONS)
    engine = EngineProcess(_settings(checkpoint, num_beams=beams, max_batch=4), LogSettings())
    with contextlib.closing(engine):
        engine.start()
        engine.wait_ready(DEADLINE_S)

        def ask(item: CaptionRequest) -> list[Any]:
            refused = CaptionRequest(item.pixels, long, item.original)
            with EngineClient(engine.address, engine.authkey) as client:
                assert client.input_size == SIZE
                client.announce()
                return client.caption_all([item, refused, item], timeout_s=DEADLINE_S)

        assert ask(requests[0])[0] == expected[0]
        with ThreadPoolExecutor(len(requests)) as threads:
            for answers, caption in zip(threads.map(ask, requests), expected, strict=True):
                assert [answers[0], answers[2]] == [caption, caption]
                assert "shorten the text" in str(answers[1])


def test_no_more_tasks_are_under_way_than_are_answered_in_time(
    checkpoint: Path, requests: list[CaptionRequest]
) -> None:
    """On a CPU, where the time of one image limits them: the next one begins when another has ended."""
    florence = _load(checkpoint, num_beams=1)
    florence.largest_batch = 2
    stream = florence.stream
    assert stream
    # Small images are seen together.
    assert stream.wanted(9) == 2
    for item in requests[:2]:
        assert stream.wanted(1) == 1
        stream.add([item])
        stream.advance()
    assert stream.wanted(9) == 0
    ended = 0
    while not ended:
        ended = len(stream.advance())
    assert stream.wanted(9) == ended
