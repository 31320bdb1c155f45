"""Passes of the vision tower side by side on a CPU."""

import threading
from collections.abc import Iterator

import pytest
import torch

from worker.engine.runtime.network.teams import Teams, teams_of


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("threads", "pieces", "teams"),
    [(1, 4, 1), (2, 1, 1), (2, 2, 2), (2, 3, 2), (6, 3, 3), (6, 5, 3), (7, 4, 1), (8, 3, 2), (16, 16, 4)],
)
def test_teams_have_the_same_number_of_threads(threads: int, pieces: int, teams: int) -> None:
    """All threads have work, and few images are in memory."""
    assert teams_of(threads, pieces) == teams


def test_pieces_run_at_the_same_time_with_their_part_of_the_threads() -> None:
    """Each waits for the others, and none has more than its part; the caller has all threads before and after."""
    barrier, seen = threading.Barrier(2), list[tuple[int, bool]]()

    def piece() -> None:
        barrier.wait(timeout=60)
        torch.ones(1000, 1000).sum()
        seen.append((torch.get_num_threads(), torch.is_inference_mode_enabled()))

    teams = Teams(4)
    for _ in range(2):
        teams.run([piece, piece])
        assert torch.get_num_threads() == 4
    assert seen == [(2, True)] * 4
    assert _threads_of_a_new_thread() == 4


def test_pieces_without_others_have_all_threads() -> None:
    """Five pieces for four threads: four side by side, and the last one by itself."""
    seen = list[int]()
    teams = Teams(4)
    teams.run([lambda: seen.append(torch.get_num_threads())] * 5)
    assert seen == [1, 1, 1, 1, 4]
    teams.run([lambda: seen.append(torch.get_num_threads())])
    assert seen[5:] == [4]


def test_an_error_is_raised_after_the_end_of_the_other_pieces() -> None:
    """The memory of a piece at work must not be used by others; the next pieces run as usual."""
    begun, ended = threading.Event(), threading.Event()

    def breaks() -> None:
        begun.set()
        raise MemoryError("no memory for this image")

    def goes_on() -> None:
        assert begun.wait(timeout=60)
        ended.set()

    teams = Teams(2)
    with pytest.raises(MemoryError, match="for this image"):
        teams.run([breaks, goes_on])
    assert ended.is_set()
    teams.run([goes_on, goes_on])


def _threads_of_a_new_thread() -> int:
    found = list[int]()
    thread = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
    thread.start()
    thread.join(timeout=60)
    return found[0]
