"""Pieces of work two at a time on a CPU with two threads, one thread for each.

Where both threads work on one piece, they wait for the slower one at the end of each layer, a few thousand times
for an image. Another process that takes one of them holds up both. Two pieces wait for each other at their ends
alone.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch

_Piece = Callable[[], None]

#: Torch's threads, for which pairs were measured. With more, a piece would need several threads. Torch's OpenMP
#: would have more threads than there are cores then, and all its threads would sleep sooner where they wait.
THREADS = 2
_SIZE = 2


class Pairs:
    """Two threads, which sleep while there is no work."""

    #: Pieces at the same time.
    size = _SIZE

    def __init__(self) -> None:
        """Start the threads: one that cannot start must not be found beside a piece at work.

        Raises:
            RuntimeError: the system starts no thread.
        """
        self._pool = ThreadPoolExecutor(_SIZE, thread_name_prefix="pair")
        barrier = threading.Barrier(_SIZE)
        try:
            begun = [self._pool.submit(_begin, barrier) for _ in range(_SIZE)]
        except RuntimeError:
            barrier.abort()
            raise
        for each in begun:
            each.result()
        # The threads have changed the number that later ones have.
        torch.set_num_threads(torch.get_num_threads())

    def run(self, pieces: Sequence[_Piece]) -> None:
        """Run all pieces, and end with the last one; a piece without another runs in the calling thread.

        Raises:
            Exception: the error of a piece, after the end of the other one.
        """
        for start in range(0, len(pieces), _SIZE):
            pair = pieces[start : start + _SIZE]
            if len(pair) == _SIZE:
                self._run(pair)
            else:
                pair[0]()

    def _run(self, pair: Sequence[_Piece]) -> None:
        running: list[Future[None]] = [self._pool.submit(_inferred, piece) for piece in pair]
        wait(running)
        try:
            while running:
                running.pop().result()
        finally:
            # An error has this frame, and the future has the error: together they would keep the failed tensors.
            running.clear()


def _begin(barrier: threading.Barrier) -> None:
    # The first question gives a new thread the number of all threads; a later one would undo the next line.
    torch.get_num_threads()
    torch.set_num_threads(1)
    barrier.wait()


def _inferred(piece: _Piece) -> None:
    with torch.inference_mode():
        piece()
