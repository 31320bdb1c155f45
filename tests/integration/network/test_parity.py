"""The network's answers are those of transformers: greedy and beams, image by image and in mixed batches."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import Florence2ForConditionalGeneration, Florence2Processor

from dropline.contract import TaskPrompt
from dropline.settings import EngineSettings
from tests.support.tiny_florence import POSITIONS, SIZE, save_checkpoint
from tools.demo_model.evaluate import held_out_scenes, images_of
from worker.engine.runtime.answers import AnswerRules
from worker.engine.runtime.checkpoint import find_checkpoint
from worker.engine.runtime.florence import normalisation
from worker.engine.runtime.network.beams import BeamBatches
from worker.engine.runtime.network.form import Form, SameLane, direct_form, uncaptured
from worker.engine.runtime.network.generation import Answers, Batch, Generator, Network
from worker.engine.runtime.network.operations import PortableOperations
from worker.engine.runtime.network.pairs import Pairs
from worker.engine.runtime.network.search import SearchRules
from worker.engine.runtime.network.slots import GreedySlots

CPU = torch.device("cpu")
LIMIT = 24
#: More images than a batch's places in use, and a number that is no power of two.
MOST = 6
TEXTS = {prompt: "a {red} car" if prompt.takes_text else "" for prompt in TaskPrompt}
REGION = "<loc_1><loc_22><loc_333><loc_999>"


@dataclass(frozen=True)
class Question:
    """An image and a whole prompt."""

    image: Image.Image
    prompt: TaskPrompt
    limit: int = LIMIT
    text: str | None = None

    @property
    def words(self) -> str:
        text = TEXTS[self.prompt] if self.text is None else self.text
        return self.prompt.value + (REGION if self.prompt.takes_region else text)


class Pair:
    """A checkpoint in transformers' class, and the same tensors in the network."""

    def __init__(self, directory: Path) -> None:
        # The models are small, and the tests of another process use the other core.
        torch.set_num_threads(1)
        self.model: Any = Florence2ForConditionalGeneration.from_pretrained(directory, dtype=torch.float32).eval()
        self.processor: Any = Florence2Processor.from_pretrained(directory)
        images = self.processor.image_processor
        scale, shift = normalisation(images.image_mean, images.image_std, images.rescale_factor, CPU)
        self.size: int = images.size["height"]
        self.vocabulary: int = self.model.config.text_config.vocab_size
        self.grammars = AnswerRules(self.processor, self.vocabulary, CPU)
        with torch.inference_mode():
            self.network = Network(self.model, self.processor.num_image_tokens, scale, shift, PortableOperations())

    def rules(self, beams: int, early_stopping: bool) -> SearchRules:
        config = self.model.generation_config
        config.update(num_beams=beams, early_stopping=early_stopping and beams > 1, max_new_tokens=LIMIT)
        return SearchRules.of(config)

    def expected(self, question: Question, rules: SearchRules) -> list[int]:
        """The tokens of transformers, one image at a time and without padding."""
        inputs = self.processor(text=question.words, images=self.square(question.image), return_tensors="pt")
        banned = self.grammars.banned([question.prompt])[0].nonzero().flatten().tolist()
        answer: Tensor = self.model.generate(
            **inputs, num_beams=rules.beams, early_stopping=rules.early_stopping, do_sample=False, max_length=None,
            max_new_tokens=question.limit, suppress_tokens=banned,
        )  # fmt: skip
        return without_padding(answer[0].tolist())

    def square(self, image: Image.Image) -> Image.Image:
        return image.convert("RGB").resize((self.size, self.size), Image.Resampling.BICUBIC)

    def tokens_of(self, question: Question) -> int:
        """Tokens of image and prompt."""
        return len(self.processor(text=question.words, images=question.image).input_ids[0])

    def batch(self, questions: Sequence[Question]) -> Batch:
        """The batch; questions about the same image share its pixels."""
        tokens = self.processor.num_image_tokens
        images = {id(question.image): question.image for question in questions}
        return Batch(
            pixels=[torch.from_numpy(np.array(self.square(image))) for image in images.values()],
            images=[list(images).index(id(question.image)) for question in questions],
            prompts=[self.processor(text=q.words, images=q.image).input_ids[0][tokens:] for q in questions],
            banned=self.grammars.banned([question.prompt for question in questions]),
            limits=[question.limit for question in questions],
        )


def without_padding(tokens: Sequence[int]) -> list[int]:
    return [token for token in tokens if token != 1]


def generator(pair: Pair, rules: SearchRules, form: Form) -> GreedySlots | BeamBatches:
    build = GreedySlots if rules.beams == 1 else BeamBatches
    return build(pair.network, rules, MOST, pair.size, pair.vocabulary, form)


def direct(pair: Pair, rules: SearchRules) -> GreedySlots | BeamBatches:
    """As on a CPU, with small images: two in one pass of the vision tower, and two passes at the same time."""
    return generator(pair, rules, direct_form(2, Pairs()))


def captured(pair: Pair, rules: SearchRules) -> GreedySlots | BeamBatches:
    """In the sizes of graphs, on a device without graphs: the capture repeats the work, on the same memory."""
    return generator(pair, rules, Form(uncaptured, uncaptured, SameLane(), exact=False, tokens_per_look=4))


Build = Callable[[Pair, SearchRules], GreedySlots | BeamBatches]
GENERATORS = pytest.mark.parametrize("build", [direct, captured], ids=["direct", "captured"])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Random weights, whose answers depend on image and prompt, and on each rule of the search."""
    return Pair(save_checkpoint(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def demo() -> Pair:
    """The demo model: windows that do not divide its images' sides, and answers that mean something."""
    return Pair(find_checkpoint(EngineSettings(checkpoint="demo")).directory)


def noise(count: int) -> list[Image.Image]:
    random = np.random.default_rng(11)
    return [Image.fromarray(random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)) for _ in range(count)]


def answers_in_batches(generator: Generator, pair: Pair, questions: Sequence[Question]) -> list[list[int]]:
    """In batches of 6, then of what is left."""
    found: list[Answers] = [
        generator(pair.batch(questions[start : start + MOST])) for start in range(0, len(questions), MOST)
    ]
    return [without_padding(tokens) for answers in found for tokens in answers.tokens]


@GENERATORS
@pytest.mark.parametrize(("beams", "early"), [(1, False), (3, True), (2, False)])
def test_all_tasks_of_random_weights(tiny: Pair, build: Build, beams: int, early: bool) -> None:
    """Every prompt in mixed batches, with the last batch smaller than its places."""
    rules = tiny.rules(beams, early)
    questions = [Question(image, prompt) for image, prompt in zip(noise(15), TaskPrompt, strict=True)]
    found = answers_in_batches(build(tiny, rules), tiny, questions)
    assert found == [tiny.expected(question, rules) for question in questions]
    assert len({tuple(tokens) for tokens in found}) == len(questions), "equal answers would prove little"


@GENERATORS
@pytest.mark.parametrize("beams", [1, 3])
def test_scenes_of_the_demo_model(demo: Pair, build: Build, beams: int) -> None:
    """The three tasks that the demo model knows, on scenes that it never saw."""
    rules = demo.rules(beams, early_stopping=False)
    tasks = [TaskPrompt.CAPTION, TaskPrompt.DETAILED_CAPTION, TaskPrompt.OD]
    images = images_of(held_out_scenes(8))
    questions = [Question(image, task) for image in images for task in tasks]
    found = answers_in_batches(build(demo, rules), demo, questions)
    assert found == [demo.expected(question, rules) for question in questions]


@GENERATORS
@pytest.mark.parametrize(("beams", "early"), [(1, False), (3, True), (3, False)])
def test_each_answer_has_its_own_limit(tiny: Pair, build: Build, beams: int, early: bool) -> None:
    """Short and long limits in one batch: every answer is the one that it is alone with its limit."""
    rules = tiny.rules(beams, early)
    limits = [2, LIMIT, 7, 5, LIMIT + 9, 12]
    questions = [
        Question(image, TaskPrompt.DENSE_REGION_CAPTION, limit)
        for image, limit in zip(noise(MOST), limits, strict=True)
    ]
    found = answers_in_batches(build(tiny, rules), tiny, questions)
    expected = [replace(question, limit=min(question.limit, LIMIT)) for question in questions]
    assert found == [tiny.expected(question, rules) for question in expected]
    assert len({len(tokens) for tokens in found}) > 2


@GENERATORS
def test_a_prompt_of_all_positions(tiny: Pair, build: Build) -> None:
    """The longest prompt that the encoder reads, beside a short one."""
    rules = tiny.rules(1, early_stopping=False)
    first, second = noise(2)
    short = Question(second, TaskPrompt.CAPTION)
    empty = Question(first, TaskPrompt.OPEN_VOCABULARY_DETECTION, text="")
    room = POSITIONS - tiny.tokens_of(empty)
    long = replace(empty, text="x" * room)
    assert tiny.tokens_of(long) == POSITIONS
    found = answers_in_batches(build(tiny, rules), tiny, [long, short])
    assert found == [tiny.expected(question, rules) for question in (long, short)]


@GENERATORS
@pytest.mark.parametrize("beams", [1, 3])
def test_an_answer_does_not_depend_on_its_neighbours(tiny: Pair, build: Build, beams: int) -> None:
    """Alone, in a batch, and after a batch of others on the same memory: the same tokens."""
    generator = build(tiny, tiny.rules(beams, early_stopping=True))
    first, *others = [Question(image, TaskPrompt.CAPTION) for image in noise(MOST)]
    long = replace(first, prompt=TaskPrompt.OPEN_VOCABULARY_DETECTION)
    alone = generator(tiny.batch([first])).tokens[0]
    for batch in ([*others, first], [long, first], [first]):
        place = batch.index(first)
        found = generator(tiny.batch(batch)).tokens[place]
        assert without_padding(found) == without_padding(alone)


@GENERATORS
@pytest.mark.parametrize("beams", [1, 3])
def test_several_prompts_of_one_image(tiny: Pair, build: Build, beams: int) -> None:
    """The answers are those of each prompt with its image alone, in any order of images and prompts."""
    rules = tiny.rules(beams, early_stopping=True)
    first, second = noise(2)
    tasks = [TaskPrompt.CAPTION, TaskPrompt.OD, TaskPrompt.OCR]
    questions = [Question(first, task) for task in tasks] + [Question(second, task) for task in tasks]
    questions[1], questions[4] = questions[4], questions[1]
    found = answers_in_batches(build(tiny, rules), tiny, questions)
    assert found == [tiny.expected(question, rules) for question in questions]
    assert len({tuple(tokens) for tokens in found}) == len(questions)


@GENERATORS
@pytest.mark.parametrize("beams", [1, 3])
def test_an_image_is_seen_once_for_all_its_prompts(
    tiny: Pair, build: Build, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two images of five prompts fill a graph of two images, and one of eight prompts, of which six have room."""
    seen: list[int] = []
    vision = tiny.network.vision

    def counting(pixels: torch.Tensor) -> torch.Tensor:
        seen.append(len(pixels))
        return vision(pixels)

    monkeypatch.setattr(tiny.network, "vision", counting)
    first, second = noise(2)
    tasks = [TaskPrompt.CAPTION, TaskPrompt.OD, TaskPrompt.OCR]
    questions = [*(Question(first, task) for task in tasks), *(Question(second, task) for task in tasks[:2])]
    build(tiny, tiny.rules(beams, early_stopping=False))(tiny.batch(questions))
    assert sum(seen) == 2


def test_image_tokens_equal_those_of_transformers(tiny: Pair, demo: Pair) -> None:
    """The vision tower and the projection alone."""
    for pair in (tiny, demo):
        pixels = np.stack([np.array(pair.square(image)) for image in noise(2)])
        inputs = pair.processor.image_processor(list(pixels), return_tensors="pt")
        with torch.inference_mode():
            expected = pair.model.get_image_features(inputs["pixel_values"]).pooler_output
            found = pair.network.vision(torch.from_numpy(pixels))
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("repetition_penalty", 1.3), ("early_stopping", "never"), ("eos_token_id", [2, 3]), ("suppress_tokens", [5])],
)
def test_a_rule_that_the_search_has_not_is_refused(tiny: Pair, field: str, value: object) -> None:
    """A rule of the checkpoint is followed or refused, never left out in silence."""
    config: Any = type(tiny.model.generation_config)(**tiny.model.generation_config.to_dict() | {field: value})
    with pytest.raises(ValueError, match=field):
        SearchRules.of(config)
