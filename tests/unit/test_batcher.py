"""Batches of queued requests, and the bisection of a failing batch."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import EngineUnavailable, InferenceFailed
from worker.engine.runtime.batcher import Batcher, BatchLimit, run_with_bisection
from worker.engine.runtime.device_errors import Fault, fault_of
from worker.engine.runtime.model import BatchTooLarge, DeviceBroken

#: Longer than any test may take.
FOREVER_S = 3600.0
DEADLINE_S = 60.0


@dataclass(frozen=True)
class Request:
    """A request with the properties used by the batcher."""

    child: int
    number: int
    isolated: bool = False
    size: int = 1
    priority: int = 0


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["announce", "retract", "submit", "isolated", "remove", "take"]),
        st.integers(0, 5),
        st.integers(1, 4),
        st.integers(0, 2),
        st.sampled_from([0.0, 4.0, 11.0]),
    ),
    max_size=60,
)


class Reference:
    """The batcher's rules as a simple list."""

    def __init__(self, max_batch: int) -> None:
        self.waiting: list[Request] = []
        self._turns: dict[Request, float] = {}
        self._max_batch = max_batch

    def submit(self, request: Request, turn: float) -> None:
        self._turns[request] = turn
        self.waiting = sorted([*self.waiting, request], key=self._turns.__getitem__)

    def remove(self, child: int) -> None:
        self.waiting = [request for request in self.waiting if request.child != child]

    def next_batch(self) -> list[Request]:
        batch: list[Request] = []
        for request in self.waiting:
            fits = sum(each.size for each in (*batch, request)) <= self._max_batch
            if batch and not request.isolated and not fits:
                break
            if not request.isolated:
                batch.append(request)
        if self.waiting[0].isolated:
            batch = self.waiting[:1]
        self.waiting = [request for request in self.waiting if request not in batch]
        return batch


@given(operations=OPERATIONS, max_batch=st.integers(1, 5))
def test_every_request_is_handed_out_exactly_once(
    operations: list[tuple[str, int, int, int, float]], max_batch: int
) -> None:
    """Each request of a connected child is returned once, in order, and alone if isolated or too large.

    The tasks of a batch are within the maximum, and a small request does not overtake one that did not fit. The
    order is that of arrival, where each step of priority counts as ten seconds.
    """
    now = 0.0
    batcher: Batcher[Request] = Batcher(max_batch, max_wait_s=0, priority_s=10, clock=lambda: now)
    reference = Reference(max_batch)
    for number, (operation, child, size, priority, pause_s) in enumerate(operations):
        now += pause_s
        match operation:
            case "submit" | "isolated":
                request = Request(child, number, operation == "isolated", size, priority)
                reference.submit(request, now + 10 * priority)
                batcher.submit(request)
            case "remove":
                reference.remove(child)
                batcher.remove(child)
            case "take":
                if reference.waiting:
                    assert batcher.next_batch() == reference.next_batch()
            case _:
                getattr(batcher, operation)(child)
    while reference.waiting:
        assert batcher.next_batch() == reference.next_batch()
    batcher.close()
    assert batcher.next_batch() == []


def test_a_fresh_image_goes_first_and_a_bulk_image_is_not_forgotten() -> None:
    """A fresh image waits for the model alone, not for the bulk images of other children in the queue."""
    now = 0.0
    batcher: Batcher[Request] = Batcher(1, 0, priority_s=10, clock=lambda: now)
    for number in range(3):
        batcher.submit(Request(number, number, priority=2))
    now = 19.0
    batcher.submit(Request(3, 3))
    assert [request.number for request in batcher.next_batch()] == [3]
    now = 21.0
    batcher.submit(Request(4, 4))
    assert [request.number for request in batcher.next_batch()] == [0]


def _next(pool: ThreadPoolExecutor, batcher: Batcher[Request]) -> Future[list[Request]]:
    return pool.submit(batcher.next_batch)


def test_a_batch_waits_for_announced_requests() -> None:
    """An announced request joins the batch of the queued request."""
    batcher: Batcher[Request] = Batcher(8, FOREVER_S)
    with ThreadPoolExecutor() as pool:
        batcher.announce(2)
        batcher.submit(Request(1, 1))
        batch = _next(pool, batcher)
        batcher.submit(Request(2, 2))
        assert [request.number for request in batch.result(DEADLINE_S)] == [1, 2]


@pytest.mark.parametrize("end", ["retract", "remove"])
def test_a_batch_does_not_wait_for_retracted_requests(end: str) -> None:
    """A retraction, or the removal of the announcing child, ends the wait at once."""
    batcher: Batcher[Request] = Batcher(8, FOREVER_S)
    with ThreadPoolExecutor() as pool:
        batcher.announce(2)
        batcher.submit(Request(1, 1))
        batch = _next(pool, batcher)
        getattr(batcher, end)(2)
        assert [request.number for request in batch.result(DEADLINE_S)] == [1]


def test_a_full_batch_does_not_wait() -> None:
    """A full batch ignores announcements."""
    batcher: Batcher[Request] = Batcher(2, FOREVER_S)
    batcher.announce(9)
    for number in range(3):
        batcher.submit(Request(number, number))
    with ThreadPoolExecutor() as pool:
        assert len(_next(pool, batcher).result(DEADLINE_S)) == 2


def test_the_wait_for_announced_requests_ends() -> None:
    """A child without a request after the announcement delays other children by the configured wait at most."""
    batcher: Batcher[Request] = Batcher(8, 0.01)
    batcher.announce(2)
    batcher.submit(Request(1, 1))
    with ThreadPoolExecutor() as pool:
        assert len(_next(pool, batcher).result(DEADLINE_S)) == 1


def test_a_removed_child_s_requests_are_not_returned() -> None:
    """When the queue becomes empty during the wait, the batcher waits for the next request."""
    batcher: Batcher[Request] = Batcher(8, FOREVER_S)
    with ThreadPoolExecutor() as pool:
        batcher.announce(2)
        batcher.submit(Request(1, 1))
        batch = _next(pool, batcher)
        batcher.remove(1)
        batcher.submit(Request(2, 2))
        assert [request.number for request in batch.result(DEADLINE_S)] == [2]


def test_closing_wakes_the_model() -> None:
    """The waiting thread gets an empty batch."""
    batcher: Batcher[Request] = Batcher(8, FOREVER_S)
    with ThreadPoolExecutor() as pool:
        batch = _next(pool, batcher)
        batcher.close()
        assert batch.result(DEADLINE_S) == []


def test_a_batch_that_was_too_large_halves_the_limit() -> None:
    """The limit is half of the batch that did not fit, and never falls below 1."""
    batcher: Batcher[Request] = Batcher(8, 0)
    batcher.did_not_fit(6)
    assert batcher.max_batch == 3
    batcher.did_not_fit(8)
    assert batcher.max_batch == 3
    for _ in range(3):
        batcher.did_not_fit(batcher.max_batch)
    assert batcher.max_batch == 1


def _full_batches_until_a_larger_one(limit: BatchLimit) -> int:
    before, count = limit.value, 0
    while limit.value == before:
        limit.did_fit(before // 2)  # says nothing
        limit.did_fit(before)
        count += 1
    return count


def test_the_limit_grows_back_when_memory_is_free_again() -> None:
    """After some full batches the limit doubles, up to its first value."""
    limit = BatchLimit(12)
    limit.did_not_fit(12)
    limit.did_not_fit(6)
    values = [limit.value]
    while limit.value < 12:
        assert 8 <= _full_batches_until_a_larger_one(limit) <= 1024
        values.append(limit.value)
    assert values == [3, 6, 12]


def test_a_limit_that_was_found_with_little_memory_grows() -> None:
    """An engine that starts beside another program forms full batches after that program has ended."""
    batcher: Batcher[Request] = Batcher(12, 0, begin=3)
    values = [batcher.max_batch]
    while batcher.max_batch < 12:
        batcher.did_fit(batcher.max_batch)
        if batcher.max_batch != values[-1]:
            values.append(batcher.max_batch)
    assert values == [3, 6, 12]


def test_the_limit_grows_back_with_several_tasks_of_each_image() -> None:
    """Batches of three tasks per image never have the seven tasks of a limit."""
    limit = BatchLimit(15)
    limit.did_not_fit(15)
    for _ in range(1024):
        limit.did_fit(limit.value // 3 * 3)
    assert limit.value == 15


def test_a_limit_that_stays_too_large_is_tried_less_and_less_often() -> None:
    """Each failed try doubles the number of batches before the next one; after a success the count begins anew."""
    limit = BatchLimit(8)
    waits = []
    for _ in range(10):
        limit.did_not_fit(8)
        waits.append(_full_batches_until_a_larger_one(limit))
    assert waits == [16, 32, 64, 128, 256, 512, 1024, 1024, 1024, 1024]
    limit.did_fit(8)
    limit.did_not_fit(8)
    assert _full_batches_until_a_larger_one(limit) == waits[0]


def test_many_children_at_once_lose_nothing() -> None:
    """Requests from many threads are each returned once."""
    batcher: Batcher[Request] = Batcher(7, 0.001)
    seen: list[int] = []

    def consume() -> None:
        while batch := batcher.next_batch():
            seen.extend(request.number for request in batch)
            if len(seen) == 400:
                batcher.close()

    def produce(child: int) -> None:
        for index in range(20):
            batcher.announce(child)
            batcher.submit(Request(child, child * 20 + index, isolated=index % 7 == 0))

    consumer = threading.Thread(target=consume, daemon=True)
    consumer.start()
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(produce, range(20)))
    consumer.join(DEADLINE_S)
    assert sorted(seen) == list(range(400))


@given(size=st.integers(1, 40), poison=st.sets(st.integers(0, 39)), fits=st.integers(1, 40))
def test_poison_fails_alone(size: int, poison: set[int], fits: int) -> None:
    """Every item has an outcome, in order: an error for exactly the poisonous items, a result for the others."""

    def run(batch: Sequence[int]) -> list[str]:
        if len(batch) > fits:
            raise BatchTooLarge("too many")
        if poison & set(batch):
            raise RuntimeError("poison")
        return [f"result {item}" for item in batch]

    outcomes = list(run_with_bisection(range(size), run, probe=lambda: None))
    assert [item for item, _ in outcomes] == list(range(size))
    for item, outcome in outcomes:
        if item in poison:
            assert isinstance(outcome, InferenceFailed)
        else:
            assert outcome == f"result {item}"


def test_a_device_without_memory_blames_no_image() -> None:
    """An image too large for the device gets a transient error: the fault is the device's."""

    def run(batch: Sequence[int]) -> list[str]:
        raise BatchTooLarge("full")

    assert all(
        isinstance(outcome, EngineUnavailable) for _, outcome in run_with_bisection([1, 2], run, lambda: None)
    )


def test_a_broken_model_blames_no_image() -> None:
    """When the probe fails too, the probe's error is raised and no item gets an error."""

    def run(batch: Sequence[int]) -> list[str]:
        raise RuntimeError("device-side assert")

    def probe() -> None:
        run([0])

    with pytest.raises(RuntimeError, match="device-side"):
        list(run_with_bisection([1, 2, 3], run, probe))


def test_an_unusable_device_blames_no_image() -> None:
    """The error ends the engine without a probe: the context of the device is gone for every image."""

    def run(batch: Sequence[int]) -> list[str]:
        raise DeviceBroken("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceBroken):
        list(run_with_bisection([1, 2], run, lambda: None))


def test_a_device_that_is_full_during_the_probe_blames_no_image() -> None:
    """The image's error is not known to be its own, and the engine need not end."""

    def run(batch: Sequence[int]) -> list[str]:
        raise RuntimeError("unexpected")

    def probe() -> None:
        raise BatchTooLarge("full")

    ((_, outcome),) = run_with_bisection([1], run, probe)
    assert isinstance(outcome, EngineUnavailable)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB", Fault.MEMORY),
        ("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", Fault.MEMORY),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", Fault.MEMORY),
        ("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`", Fault.MEMORY),
        ("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED", Fault.MEMORY),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", Fault.MEMORY),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR", Fault.MEMORY),
        ("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory", Fault.MEMORY),
        ("CUDA error: an illegal memory access was encountered", Fault.BROKEN),
        ("CUDA error: device-side assert triggered", Fault.BROKEN),
        ("CUDA error: unspecified launch failure", Fault.BROKEN),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", Fault.BROKEN),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", Fault.BROKEN),
        ("The size of tensor a (3) must match the size of tensor b (4)", Fault.OTHER),
    ],
)
def test_errors_of_a_device_are_told_by_their_words(words: str, fault: Fault) -> None:
    """A failed allocation is tried again, a broken context ends the engine, and the rest may be the image's."""
    assert fault_of(RuntimeError(words)) is fault
