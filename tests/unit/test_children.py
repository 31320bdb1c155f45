"""The number of a worker's children where no setting names it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dropline.settings import Settings
from worker.children import MOST_CHILDREN, Bound, Children, choose_children, log_children, with_children
from worker.memory import plan_memory
from worker.memory_limit import MemoryLimit

_GIB = 2**30


def limit_of(gibibytes: float) -> MemoryLimit:
    return MemoryLimit(int(gibibytes * _GIB), "a test")


def settings_of(children: int = 0, **engine: Any) -> Settings:
    return Settings.model_validate({"worker": {"concurrency": children}, "engine": engine})


@pytest.mark.parametrize(
    ("gibibytes", "gpus", "engine", "number", "bound"),
    [
        (32, 1, {}, 56, Bound.MEMORY),
        (16, 1, {}, 22, Bound.MEMORY),
        (64, 1, {}, 64, Bound.BATCHES),
        (64, 1, {"max_batch": 16}, 32, Bound.BATCHES),
        (256, 1, {"max_batch": 64}, 64, Bound.CONNECTIONS),
        (256, 4, {"device": "cuda:0,cuda:1,cuda:2,cuda:3"}, 64, Bound.CONNECTIONS),
        (256, 0, {}, 4, Bound.CPU),
        (256, 0, {"device": "cpu,cpu,cpu,cpu"}, 8, Bound.CPU),
        (4, 0, {"checkpoint": "demo"}, 4, Bound.CPU),
        (3, 0, {"checkpoint": "demo"}, 2, Bound.MEMORY),
    ],
)
def test_full_batches_within_memory_and_connections(
    gibibytes: float, gpus: int, engine: dict[str, Any], number: int, bound: Bound
) -> None:
    """Two batches for each GPU, of which one is in the engine; four images on a CPU."""
    found = choose_children(settings_of(**engine), limit_of(gibibytes), gpus)
    assert (found.number, found.bound) == (number, bound)


@given(st.floats(0.1, 600), st.integers(0, 16), st.integers(1, 512), st.booleans())
def test_the_chosen_number_always_fits(gibibytes: float, gpus: int, max_batch: int, stub: bool) -> None:
    """A worker with the chosen number starts, where one with a single child would start."""
    settings, limit = settings_of(max_batch=max_batch, stub=stub), limit_of(gibibytes)
    found = choose_children(settings, limit, gpus)
    assert 1 <= found.number <= min(found.wanted, MOST_CHILDREN)
    if found.number > 1:
        plan = plan_memory(settings_of(found.number, max_batch=max_batch, stub=stub), limit)
        assert plan.total_bytes <= limit.limit_bytes


def no_look(_: int = 0) -> Any:
    raise AssertionError("nothing is looked at")


def test_a_number_of_the_settings_stays() -> None:
    """Neither memory nor GPUs are looked at."""
    settings = settings_of(7, device="auto")
    assert with_children(settings, no_look, no_look) == (settings, None)


@pytest.mark.parametrize(
    ("engine", "gpus", "number"),
    [
        ({"device": "auto"}, 1, 64),
        ({"device": "auto"}, 0, 4),
        ({"device": "auto", "stub": True}, 1, 4),
        ({"device": "cuda"}, 1, 64),
        ({"device": "cuda:1"}, 0, 64),
        ({"device": "cpu"}, 1, 4),
    ],
)
def test_the_engines_on_gpus_are_counted(engine: dict[str, Any], gpus: int, number: int) -> None:
    """`auto` is one GPU at most here: several GPUs have been named before."""
    settings, children = with_children(settings_of(**engine), lambda _: limit_of(512), lambda: gpus)
    assert children
    assert settings.worker.concurrency == children.number == number


def test_without_limits_of_decoders_memory_is_not_asked() -> None:
    """There is no sum then."""
    settings = Settings.model_validate({"images": {"child_memory_bytes": 0}, "engine": {"device": "cuda"}})
    assert with_children(settings, no_look)[0].worker.concurrency == 64


def test_the_log_has_the_numbers() -> None:
    """One line for a chosen number, none for one of the settings."""
    with capture_logs() as lines:
        log_children(None)
        log_children(Children(22, 64, Bound.MEMORY, gpu_engines=1, max_batch=32))
    (line,) = lines
    assert line == {
        "event": "children_chosen",
        "log_level": "info",
        "children": 22,
        "wanted": 64,
        "decided_by": "memory",
        "gpu_engines": 1,
        "max_batch": 32,
    }
