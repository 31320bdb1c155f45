"""A child's client of all engines of its worker: each image goes to the engine with the fewest images."""

import os
from collections.abc import Sequence

from dropline.contract import Caption
from dropline.errors import EngineUnavailable, InferenceFailed
from worker.engine.board import Board
from worker.engine.client import EngineClient
from worker.engine.wire import CaptionRequest


class SpreadClient:
    """One `EngineClient` for each engine, of which one has the current image.

    Not thread-safe: one image at a time. Create a client after the fork.
    """

    def __init__(self, clients: Sequence[EngineClient], board: Board, place: int) -> None:
        """Create a client that is not connected.

        Args:
            clients: of all engines, in the board's order.
            board: of the worker.
            place: of this child on the board, from 0.
        """
        self._clients = clients
        self._board = board
        self._place = place
        #: The engine of the current image, or of the last one.
        self._chosen: int | None = None

    @property
    def engine(self) -> int:
        """Number of the engine of the last request."""
        return self._client.engine

    @property
    def is_tried(self) -> bool:
        """Whether the breaker of the next image's engine is open, and tries the engine with this image."""
        return self._board.is_tried(self._board.best(self._place))

    @property
    def input_size(self) -> int:
        """Pixels per side of the model's input, of all engines.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        return self._client.input_size

    @property
    def model(self) -> tuple[str, str] | None:
        """Checkpoint and revision of the last engine; None if no engine was reached yet."""
        return self._client.model

    def announce(self) -> None:
        """Choose an engine for the next image, and announce the request there.

        Raises:
            EngineUnavailable: the engine cannot be reached.
        """
        self._chosen = self._board.take(self._place, os.getpid())
        try:
            self._client.announce()
        except BaseException:
            self._board.release(self._place)
            raise

    def retract(self) -> None:
        """Withdraw the announced request. Never fails and never connects."""
        self._board.release(self._place)
        self._client.retract()

    def caption_all(
        self, requests: Sequence[CaptionRequest], *, timeout_s: float
    ) -> list[Caption | EngineUnavailable | InferenceFailed]:
        """Answer several tasks of one image; see `EngineClient.caption_all`.

        An engine that has ended since the announcement is replaced by a ready one.
        """
        try:
            if self._chosen is None or not self._board.is_ready(self._chosen):
                self._chosen = self._board.take(self._place, os.getpid())
            return self._client.caption_all(requests, timeout_s=timeout_s)
        finally:
            self._board.release(self._place)

    def close(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()

    @property
    def _client(self) -> EngineClient:
        return self._clients[self._board.best(self._place) if self._chosen is None else self._chosen]
