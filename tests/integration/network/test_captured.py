"""Captured work: a graph holds addresses alone, and reads nothing from the host while it runs."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from dropline.contract import TaskPrompt
from tests.integration.network.test_parity import Pair, Question, noise, tiny
from worker.engine.runtime.network.form import Form, Part, SameLane, Work
from worker.engine.runtime.network.operations import PortableOperations
from worker.engine.runtime.network.search import BeamSearch, GreedySearch
from worker.engine.runtime.network.slots import GreedySlots

__all__ = ["tiny"]

#: Operations that bring a number from the host to the device, or from the device to the host.
FROM_OR_TO_HOST = ("scalar_tensor", "lift_fresh", "_local_scalar_dense", "where.Scalar", "_to_copy", "item")


class Watch(TorchDispatchMode):
    """Notes the names of the operations."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func).startswith("aten._to_copy") and (kwargs or {}).get("device") is None:
            # Another dtype on the same device.
            return func(*args, **(kwargs or {}))
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


def test_a_step_of_a_greedy_search_takes_no_number_from_the_host(tiny: Pair) -> None:
    """A captured copy from the host would read freed memory in each later run."""
    banned = torch.zeros((2, tiny.vocabulary), dtype=torch.bool)
    search = GreedySearch(tiny.rules(1, early_stopping=False), PortableOperations(), 2, banned)
    logits = torch.randn(2, tiny.vocabulary)
    with torch.inference_mode():
        search.begin(torch.arange(2), torch.zeros_like(banned), torch.full((2,), 9))
        with Watch() as watch:
            search.last_tokens(2)
            search.advance(logits)
            search.advance(logits)
    _check(watch)


def test_a_step_of_a_beam_search_takes_no_number_from_the_host(tiny: Pair) -> None:
    """Nor does its begin, which is captured too."""
    banned = torch.zeros((2, tiny.vocabulary), dtype=torch.bool)
    search = BeamSearch(tiny.rules(3, early_stopping=True), PortableOperations(), 2, banned)
    logits = torch.randn(6, tiny.vocabulary)
    with torch.inference_mode(), Watch() as watch:
        search.begin(lambda _tokens, _positions: None)
        search.last_tokens(6)
        search.advance(logits)
        search.advance(logits)
    _check(watch)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@torch.inference_mode()
def test_a_logit_of_a_forbidden_token_that_is_not_finite_breaks_the_answer(tiny: Pair, value: float) -> None:
    """The probabilities of a beam search are shares of all tokens; the other image's answer goes on."""
    banned = torch.zeros((2, tiny.vocabulary), dtype=torch.bool)
    banned[:, 7] = True
    search = BeamSearch(tiny.rules(3, early_stopping=True), PortableOperations(), 2, banned)
    search.begin(lambda _tokens, _positions: None)
    logits = torch.randn(6, tiny.vocabulary)
    search.advance(logits.clone())
    assert search.broken.tolist() == [False, False]
    logits[1, 7] = value
    search.advance(logits)
    assert search.broken.tolist() == [True, False]


def _check(watch: Watch) -> None:
    assert len(watch.names) > 20
    assert [name for name in watch.names if any(part in name for part in FROM_OR_TO_HOST)] == []


def test_the_tensors_of_captured_work_stay_alive(tiny: Pair) -> None:
    """As with a graph of a GPU, the function that was captured is forgotten; its tensors must not be."""
    held: list[weakref.ref[Tensor]] = []

    def capture(_part: Part, work: Work) -> Work:
        held.extend(weakref.ref(tensor) for tensor in _tensors_of(work))

        def replay() -> None:
            gc.collect()
            assert all(tensor() is not None for tensor in held)

        return replay

    form = Form(capture, capture, SameLane(), exact=False, tokens_per_look=4)
    slots = GreedySlots(tiny.network, tiny.rules(1, False), 2, tiny.size, tiny.vocabulary, form)
    questions = [
        Question(image, prompt)
        for image, prompt in zip(noise(2), (TaskPrompt.CAPTION, TaskPrompt.OD), strict=True)
    ]
    for batch in (questions, questions[:1], questions):
        slots.prepare(tiny.batch(batch))
        slots.advance()
        slots.reset()
    assert len(held) > 10


def _tensors_of(work: Callable[[], None]) -> list[Tensor]:
    """The tensors that a function's closure holds, also in lists and records."""
    found: list[Tensor] = []
    for cell in work.__closure__ or ():
        contents = cell.cell_contents
        fields = [getattr(contents, name, None) for name in getattr(contents, "__slots__", ())] or [contents]
        for field in fields:
            found += [part for part in (field if isinstance(field, list) else [field]) if isinstance(part, Tensor)]
    return found
