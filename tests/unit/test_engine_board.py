"""The spread of images over the engines of a worker: the board, and the client of a child."""

import os
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.errors import EngineUnavailable
from worker.engine.board import Board, Trust
from worker.engine.client import EngineClient
from worker.engine.spread import SpreadClient


def board_of(engines: int, children: int = 8) -> Board:
    """A board whose engines are all ready."""
    board = Board(engines, children)
    for engine in range(engines):
        board.set_ready(engine, ready=True)
    return board


@given(st.integers(1, 8), st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=60))
def test_the_loads_of_ready_engines_differ_by_one_at_most_while_images_arrive(
    engines: int, steps: list[tuple[int, bool]]
) -> None:
    """An image goes to an engine with the fewest images, whichever images have ended before."""
    board = board_of(engines, 16)
    for place, takes in steps:
        board.release(place)
        if takes:
            least = min(board.load(engine) for engine in range(engines))
            taken = board.take(place, 1000 + place)
            assert board.load(taken) == least + 1


def test_an_engine_that_is_away_gets_images_only_where_all_are_away() -> None:
    """A child then waits in the backlog of the engine, as with one engine."""
    board = board_of(2)
    board.set_ready(0, ready=False)
    assert [board.take(place, place) for place in range(4)] == [1, 1, 1, 1]
    board.set_ready(1, ready=False)
    assert board.take(4, 4) == 0


def test_an_engine_with_an_open_breaker_gets_one_image_as_a_probe() -> None:
    """No image before the probe, then one at a time, even where the other engine is idle."""
    board = board_of(2)
    board.set_trust(0, Trust.OPEN)
    assert [board.take(place, place) for place in range(2)] == [1, 1]
    board.set_trust(0, Trust.PROBE)
    assert [board.take(place, place) for place in range(2, 4)] == [0, 1]
    board.release(2)
    assert board.take(2, 2) == 0
    board.set_trust(0, Trust.CLOSED)
    assert board.take(5, 5) == 0


def test_a_dead_child_uses_no_engine() -> None:
    """Otherwise a probe that ended with its child would be the last."""
    board = board_of(2)
    board.take(3, 4711)
    board.forget(4712)
    assert board.load(1) == 1
    board.forget(4711)
    assert (board.load(0), board.load(1)) == (0, 0)


def test_the_board_is_shared_with_forked_children() -> None:
    """A child's use is the parent's reading, and the parent's states are the child's."""
    board = board_of(2)
    pid = os.fork()
    if not pid:
        board.take(0, os.getpid())
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.load(0) == 1


class Client:
    """Stands for the client of one engine."""

    def __init__(self, number: int) -> None:
        self.engine = number
        self.calls: list[str] = []
        self.error: Exception | None = None

    def announce(self) -> None:
        """As the client's."""
        self._call("announce")

    def retract(self) -> None:
        """As the client's."""
        self._call("retract")

    def caption_all(self, requests: Any, *, timeout_s: float) -> list[Any]:
        """As the client's."""
        self._call(f"caption {requests} {timeout_s}")
        return []

    def _call(self, call: str) -> None:
        self.calls.append(call)
        if self.error:
            raise self.error


def spread(board: Board, clients: list[Client]) -> SpreadClient:
    """The client of the child with the first place."""
    return SpreadClient([cast("EngineClient", client) for client in clients], board, 0)


def test_the_announced_engine_answers_and_is_free_again() -> None:
    """The number is that of the engine that answered."""
    board, clients = board_of(2), [Client(1), Client(2)]
    client = spread(board, clients)
    board.take(1, 1)
    client.announce()
    client.caption_all(cast("Any", "r"), timeout_s=3)
    assert (clients[0].calls, clients[1].calls, client.engine) == (["announce", "caption r 3"], [], 1)
    assert board.load(0) + board.load(1) == 1


def test_an_engine_that_has_ended_meanwhile_is_replaced() -> None:
    """The download and the decoding are not lost with the announced engine."""
    board, clients = board_of(2), [Client(1), Client(2)]
    client = spread(board, clients)
    client.announce()
    board.set_ready(0, ready=False)
    client.caption_all(cast("Any", "r"), timeout_s=3)
    assert (clients[0].calls, clients[1].calls, client.engine) == (["announce"], ["caption r 3"], 2)


def test_the_client_knows_that_the_next_image_tries_an_engine() -> None:
    """Only the engine that the next image would get, and only while its breaker lets one image pass."""
    board = board_of(2)
    client = spread(board, [Client(1), Client(2)])
    tried = [client.is_tried]
    for trust in (Trust.OPEN, Trust.PROBE):
        board.set_trust(0, trust)
        tried.append(client.is_tried)
    board.take(1, 1)
    tried.append(client.is_tried)
    assert tried == [False, False, True, False]


@pytest.mark.parametrize("call", ["announce", "retract", "caption"])
def test_no_end_of_an_image_leaves_a_use_behind(call: str) -> None:
    """An error of the announcement or of the request, or the withdrawal."""
    board, clients = board_of(1), [Client(1)]
    client = spread(board, clients)
    if call == "announce":
        clients[0].error = EngineUnavailable("away")
        with pytest.raises(EngineUnavailable):
            client.announce()
    else:
        client.announce()
        assert board.load(0) == 1
    if call == "retract":
        client.retract()
    if call == "caption":
        clients[0].error = EngineUnavailable("away")
        with pytest.raises(EngineUnavailable):
            client.caption_all([], timeout_s=1)
    assert board.load(0) == 0
