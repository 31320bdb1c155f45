"""Greedy answers that join others in mid-flight: the tokens of transformers, whatever the neighbours."""

from collections.abc import Callable, Sequence

import pytest
import torch

from dropline.contract import TaskPrompt
from tests.integration.network.test_parity import (
    GENERATORS,
    LIMIT,
    MOST,
    Build,
    Pair,
    Question,
    noise,
    tiny,
    without_padding,
)
from worker.engine.runtime.network.form import Form, Work, direct_form, form_of, uncaptured
from worker.engine.runtime.network.slots import Ended, GreedySlots
from worker.engine.runtime.network.text import Decoder

__all__ = ["tiny"]


def greedy(tiny: Pair, build: Build) -> GreedySlots:
    slots = build(tiny, tiny.rules(1, early_stopping=False))
    assert isinstance(slots, GreedySlots)
    return slots


def answer_all(slots: GreedySlots, pair: Pair, groups: Sequence[Sequence[Question]]) -> list[Ended]:
    """Hand in one group after the other, each as soon as the slots take it; the answers in the groups' order."""
    waiting, found, order = list(groups), dict[int, Ended](), list[int]()
    while waiting or slots.busy:
        if waiting and slots.wanted(len(waiting[0])):
            order += slots.prepare(pair.batch(waiting.pop(0)))
        found |= {ended.number: ended for ended in slots.advance()}
    return [found[number] for number in order]


@GENERATORS
def test_answers_that_join_others_in_mid_flight(tiny: Pair, build: Build) -> None:
    """All prompts with limits of all kinds, one image after the other, and groups of one image among them."""
    rules = tiny.rules(1, early_stopping=False)
    limits = [LIMIT, 3, LIMIT, 9, 2, 14]
    questions = [
        Question(image, prompt, limits[place % len(limits)])
        for place, (image, prompt) in enumerate(zip(noise(15), TaskPrompt, strict=True))
    ]
    first = questions[0].image
    together = [Question(first, prompt) for prompt in (TaskPrompt.OD, TaskPrompt.OCR, TaskPrompt.CAPTION)]
    groups = [*([question] for question in questions[:8]), together, *([question] for question in questions[8:])]
    found = answer_all(greedy(tiny, build), tiny, groups)
    expected = [tiny.expected(question, rules) for group in groups for question in group]
    assert [without_padding(ended.tokens) for ended in found] == expected


@GENERATORS
def test_a_long_answer_holds_up_no_short_one(tiny: Pair, build: Build) -> None:
    """Short answers leave and make room for others while the long one, which began first, goes on."""
    slots = greedy(tiny, build)
    long, *images = noise(2 * MOST + 1)
    (number,) = slots.prepare(tiny.batch([Question(long, TaskPrompt.DENSE_REGION_CAPTION, LIMIT)]))
    waiting = [Question(image, TaskPrompt.CAPTION, 2) for image in images]
    order: list[int] = []
    while slots.busy or waiting:
        if waiting and slots.wanted(1):
            slots.prepare(tiny.batch([waiting.pop()]))
        order += [ended.number for ended in slots.advance()]
    assert order.index(number) >= 3
    assert sorted(order) == list(range(2 * MOST + 1))


@GENERATORS
def test_an_answer_without_finite_logits_leaves_no_trace(
    tiny: Pair, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next answer in its slot, and those beside it, are those of a fresh memory."""
    slots = greedy(tiny, build)
    questions = [Question(image, TaskPrompt.CAPTION, 6 + 3 * place) for place, image in enumerate(noise(3))]
    long = Question(questions[0].image, TaskPrompt.OPEN_VOCABULARY_DETECTION, text="x" * 40)
    expected = [ended.tokens for ended in answer_all(greedy(tiny, build), tiny, [questions])]
    read = Decoder.read

    def ruin(decoder: Decoder, encoded: torch.Tensor, *others: object) -> None:
        encoded[1] = torch.nan
        read(decoder, encoded, *others)  # type: ignore[arg-type]  # handed on as they came

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "read", ruin)
        ruined = answer_all(slots, tiny, [[questions[0], long, questions[2]]])
    assert [ended.broken for ended in ruined] == [False, True, False]
    assert [ruined[0].tokens, ruined[2].tokens] == [expected[0], expected[2]]
    # The second prompt leaves the end of its slot as it was; the long one beside it makes the step read the end.
    again = answer_all(slots, tiny, [questions, [long]])
    assert [(ended.tokens, ended.broken) for ended in again[:3]] == [(tokens, False) for tokens in expected]


@GENERATORS
def test_a_batch_in_between_changes_nothing(tiny: Pair, build: Build) -> None:
    """A whole batch is answered while others are under way, which go on; and nothing is left after a reset."""
    slots = greedy(tiny, build)
    questions = [Question(image, TaskPrompt.OCR) for image in noise(MOST + 2)]
    expected = [ended.tokens for ended in answer_all(slots, tiny, [questions[:MOST], questions[MOST:]])]
    numbers = slots.prepare(tiny.batch(questions[:4]))
    slots.advance()
    waiting = slots.prepare(tiny.batch(questions[4:MOST]))
    between = slots(tiny.batch(questions[MOST:]))
    assert [without_padding(tokens) for tokens in between.tokens] == [
        without_padding(tokens) for tokens in expected[MOST:]
    ]
    found: dict[int, Ended] = {}
    while slots.busy:
        found |= {ended.number: ended for ended in slots.advance()}
    assert [without_padding(found[number].tokens) for number in [*numbers, *waiting]] == [
        without_padding(tokens) for tokens in expected[:MOST]
    ]
    slots.prepare(tiny.batch(questions[:2]))
    slots.advance()
    slots.reset()
    assert not slots.busy
    assert [without_padding(ended.tokens) for ended in answer_all(slots, tiny, [questions[:1]])] == [
        without_padding(expected[0])
    ]


@GENERATORS
@pytest.mark.parametrize("work", ["read", "see", "_step"])
def test_a_batch_that_fails_leaves_nothing_behind(
    tiny: Pair, build: Build, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """Halves of a batch for which the memory ran out have their answers."""
    slots = greedy(tiny, build)
    questions = [Question(image, TaskPrompt.OCR) for image in noise(4)]
    expected = slots(tiny.batch(questions)).tokens
    owner: object = slots if work == "_step" else slots._reader
    whole = getattr(owner, work)

    def full(first: Sequence[object] | int, *others: object) -> object:
        if (first if isinstance(first, int) else len(first)) > 2:
            raise RuntimeError("out of memory")
        return whole(first, *others)

    monkeypatch.setattr(owner, work, full)
    with pytest.raises(RuntimeError, match="out of memory"):
        slots(tiny.batch(questions))
    halves = [*slots(tiny.batch(questions[:2])).tokens, *slots(tiny.batch(questions[2:])).tokens]
    assert list(map(without_padding, halves)) == list(map(without_padding, expected))
    assert not slots.busy


@GENERATORS
def test_a_dropped_answer_makes_room(tiny: Pair, build: Build) -> None:
    """It ends at once; the one beside it goes on."""
    slots = greedy(tiny, build)
    questions = [Question(image, TaskPrompt.OCR) for image in noise(2)]
    expected = without_padding(slots(tiny.batch(questions)).tokens[1])
    dropped, other = slots.prepare(tiny.batch(questions))
    slots.advance()
    slots.drop([dropped])
    found = [ended for _ in iter(lambda: slots.busy, False) for ended in slots.advance()]
    assert found[0].number == dropped
    assert [without_padding(ended.tokens) for ended in found if ended.number == other] == [expected]
    assert len(found[0].tokens) < LIMIT


class LateLane:
    """Work that is done as late as is allowed, as on a stream of its own."""

    def __init__(self) -> None:
        self.waiting: list[Work] = []
        self.polls = 0

    def start(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)
        self.polls = 0

    def ready(self) -> bool:
        self.polls += 1
        return self.polls > 2

    def join(self) -> None:
        for work in self.waiting:
            work()
        self.waiting.clear()


def test_images_are_seen_while_others_are_answered(tiny: Pair) -> None:
    """As on a second stream of a GPU: while the images are being seen, the running answers get their tokens."""
    lane = LateLane()
    form = Form(uncaptured, uncaptured, lane, exact=False, tokens_per_look=4)
    slots = GreedySlots(tiny.network, tiny.rules(1, False), MOST, tiny.size, tiny.vocabulary, form)
    first, second = (Question(image, TaskPrompt.OCR) for image in noise(2))
    expected = [slots(tiny.batch([question])).tokens[0] for question in (first, second)]
    (one,) = slots.prepare(tiny.batch([first]))
    found = {ended.number: ended.tokens for ended in slots.advance()}
    position = int(slots._search.positions[0])
    (other,) = slots.prepare(tiny.batch([second]))
    found |= {ended.number: ended.tokens for ended in slots.advance()}
    assert lane.waiting, "the images are still being seen"
    assert int(slots._search.positions[0]) > position
    assert slots.wanted(5) == 0
    while slots.busy:
        found |= {ended.number: ended.tokens for ended in slots.advance()}
    assert [found[one], found[other]] == expected


@pytest.mark.parametrize(("side", "at_once"), [(96, 64), (500, 2), (768, 1), (1024, 1)])
def test_a_cpu_sees_as_many_small_images_at_once_as_fill_a_large_one(side: int, at_once: int) -> None:
    """A pass has costs of its own, which are most of the costs of a small image."""
    form = form_of(torch.device("cpu"), side)
    assert form.images_at_once == at_once
    assert form.worthwhile(1) == 1
    assert form.worthwhile(1000) == at_once * form.passes


def test_images_are_seen_in_passes_of_the_form(tiny: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images, two at once: two passes."""
    vision, sizes = tiny.network.vision, []

    def counted(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        seen: torch.Tensor = vision(pixels)
        return seen

    monkeypatch.setattr(tiny.network, "vision", counted)
    slots = GreedySlots(tiny.network, tiny.rules(1, False), MOST, tiny.size, tiny.vocabulary, direct_form(2))
    slots(tiny.batch([Question(image, TaskPrompt.CAPTION) for image in noise(3)]))
    assert sorted(sizes) == [1, 2]
