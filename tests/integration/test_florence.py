"""A small, untrained Florence-2: the engine's captions equal those of transformers, image by image."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.errors import InferenceFailed, SettingsError
from dropline.settings import EngineSettings, LogSettings
from tests.support.tiny_florence import POSITIONS, SIZE, build_processor, save_checkpoint
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine.runtime.answers import is_repetitive
from worker.engine.runtime.batcher import run_with_bisection
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import FlorenceModel, Generated
from worker.engine.runtime.loading import load_florence
from worker.engine.runtime.model import BatchTooLarge
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
    values = {"checkpoint": str(checkpoint), "dtype": "float32", "max_new_tokens": 16, "threads": 1} | others
    return EngineSettings.model_validate(values)


def _load(checkpoint: Path, **others: Any) -> FlorenceModel:
    settings = _settings(checkpoint, **others)
    return load_florence(settings, find_checkpoint(settings))


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


def _one_by_one(florence: FlorenceModel, item: CaptionRequest) -> Any:
    """The model card's example, with the whole processor."""
    processor = florence._processor
    inputs = processor(text=str(item.task), images=Image.fromarray(item.pixels), return_tensors="pt")
    impossible = _impossible_tokens(processor, item.task.prompt)
    tokens = florence._model.generate(
        **inputs, num_beams=3, do_sample=False, max_new_tokens=16, max_length=None, suppress_tokens=impossible
    )
    text = processor.batch_decode(tokens, skip_special_tokens=False)[0]
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
    florence: FlorenceModel, requests: list[CaptionRequest]
) -> None:
    """All 15 task prompts, mixed and padded in one batch, give the same captions as alone."""
    answers = florence.caption(requests)
    for item, answer in zip(requests, answers, strict=True):
        expected = _one_by_one(florence, item)
        assert isinstance(answer, Caption)
        assert (answer.result or answer.text) == expected, item.task
    rows = _generate(florence, requests)
    assert len({tuple(row) for row in rows}) == len(requests), "equal outputs would prove no order"


def _generate(florence: FlorenceModel, requests: list[CaptionRequest]) -> list[list[int]]:
    prompts = [item.task.prompt for item in requests]
    return [answer.tokens for answer in florence.generate(florence.preprocess(requests), prompts)]


@pytest.mark.parametrize("beams", [1, 3])
def test_no_answer_has_a_token_that_its_task_cannot_contain(
    checkpoint: Path, requests: list[CaptionRequest], beams: int
) -> None:
    """A caption has no coordinates, and a proposal no words; without the guard, this model generates both."""
    florence = _load(checkpoint, num_beams=beams)
    rows = _generate(florence, requests)
    for item, row in zip(requests, rows, strict=True):
        end = row.index(2, 1) if 2 in row[1:] else len(row)
        assert not {*row[1:end]} & {*_impossible_tokens(florence._processor, item.task.prompt)}, item.task
    inputs = florence.preprocess(requests)
    unguarded = florence._model.generate(**inputs, generation_config=florence._generation).tolist()
    coordinates = {number for token, number in _vocabulary(florence) if token.startswith("<loc_")}
    captions = [row for item, row in zip(requests, unguarded, strict=True) if item.task.prompt in WITHOUT_REGIONS]
    assert any({*row} & coordinates for row in captions)


def _vocabulary(florence: FlorenceModel) -> list[tuple[str, int]]:
    vocabulary: dict[str, int] = florence._processor.tokenizer.get_vocab()
    return [*vocabulary.items()]


def test_one_image_without_finite_logits_fails_alone(
    florence: FlorenceModel, requests: list[CaptionRequest]
) -> None:
    """The image has a code of its own, and the neighbours in the batch have the captions that they have alone."""
    expected = [florence.caption([item])[0] for item in requests[:3]]

    def overflow(_module: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        beams = len(logits) // 3
        logits[beams : 2 * beams] = torch.nan
        return logits

    hook = florence._model.lm_head.register_forward_hook(overflow)
    try:
        first, broken, third = florence.caption(requests[:3])
    finally:
        hook.remove()
    assert (first, third) == (expected[0], expected[2])
    assert isinstance(broken, InferenceFailed)
    assert broken.code == "non_finite_logits"


def test_a_model_without_finite_logits_is_refused_at_the_start(checkpoint: Path) -> None:
    """No image is set aside for a model that is broken for all of them."""
    florence = _load(checkpoint)
    with torch.no_grad():
        florence._model.get_input_embeddings().weight.fill_(torch.nan)
    with pytest.raises(SettingsError, match="DROPLINE_ENGINE__DTYPE=float32"):
        florence.warmup()


def test_an_answer_that_repeats_itself_up_to_the_limit_is_no_caption(
    checkpoint: Path, requests: list[CaptionRequest]
) -> None:
    """This model can only generate one word and `<s>`; a repetitive answer that ends before the limit stays."""
    florence = _load(checkpoint, max_new_tokens=100, num_beams=1)
    word = florence._processor.tokenizer.convert_tokens_to_ids("a")
    others = [number for _, number in _vocabulary(florence) if number not in (0, word)]
    florence._generation.update(suppress_tokens=others, no_repeat_ngram_size=0)
    (answer,) = florence.caption([_with_task(requests[0], TaskPrompt.CAPTION)])
    assert isinstance(answer, InferenceFailed)
    assert answer.code == "repetitive_answer"
    ended = Generated([2, 0, *[word] * 60, 2, 1, 1], broken=False)
    assert isinstance(florence.postprocess(ended, requests[0]), Caption)


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


def test_preprocessing_equals_the_processor_s(florence: FlorenceModel, requests: list[CaptionRequest]) -> None:
    """Pixels are rescaled and normalised as by the processor, and prompts have the processor's tokens."""
    for item in requests:
        ours = florence.preprocess([item])
        theirs = florence._processor(text=str(item.task), images=Image.fromarray(item.pixels), return_tensors="pt")
        assert set(ours) == set(theirs)
        torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], atol=1e-5, rtol=1e-5)
        assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()
        assert ours["attention_mask"].tolist() == theirs["attention_mask"].tolist()


def test_a_prompt_that_is_too_long_fails_alone(florence: FlorenceModel, requests: list[CaptionRequest]) -> None:
    """A prompt longer than the model's positions never reaches the device; the other requests are captioned."""
    long = TaskRequest(TaskPrompt.OPEN_VOCABULARY_DETECTION, "x" * POSITIONS)
    batch = [requests[0], CaptionRequest(requests[1].pixels, long, requests[1].original), requests[2]]
    outcomes = [outcome for _, outcome in run_with_bisection(batch, florence.caption, florence.warmup)]
    assert isinstance(outcomes[0], Caption)
    assert isinstance(outcomes[1], InferenceFailed)
    assert "shorten the text" in str(outcomes[1])
    assert isinstance(outcomes[2], Caption)


def test_the_longest_output_fits_the_model(checkpoint: Path, requests: list[CaptionRequest]) -> None:
    """With `max_new_tokens` above its positions, the model stops at its own limit instead of failing."""
    florence = _load(checkpoint, max_new_tokens=4096, num_beams=1)
    florence._generation.update(suppress_tokens=[2])
    rows = _generate(florence, requests[:2])
    assert max(map(len, rows)) == POSITIONS


def test_memory_that_runs_out_is_no_image_s_fault(
    florence: FlorenceModel, requests: list[CaptionRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's error becomes BatchTooLarge, which keeps no tensors alive."""

    def out_of_memory(**_: object) -> None:
        raise torch.OutOfMemoryError("tried to allocate 3 GiB")

    monkeypatch.setattr(florence._model, "generate", out_of_memory)
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


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[EngineProcess]:
    """A real engine process, ready."""
    engine = EngineProcess(_settings(checkpoint), LogSettings())
    try:
        engine.start()
        engine.wait_ready(DEADLINE_S)
        yield engine
    finally:
        engine.close()


def test_the_process_captions_as_the_model_does(
    engine: EngineProcess, florence: FlorenceModel, requests: list[CaptionRequest]
) -> None:
    """The caption through shared memory and socket is the model's, with the checkpoint's name and revision."""
    with EngineClient(engine.address, engine.authkey) as client:
        assert client.input_size == SIZE
        for item in requests:
            client.announce()
            answer = client.caption(item, timeout_s=DEADLINE_S)
            assert answer == florence.caption([item])[0]
            assert (answer.model, answer.model_revision) == (florence.name, florence.revision)
