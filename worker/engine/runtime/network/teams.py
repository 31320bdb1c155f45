"""Pieces of work side by side on a CPU, each with its part of torch's threads.

The threads of one piece meet at the end of each layer. Where another process holds one of them up, all of them
wait, a few thousand times for an image. Two pieces with a thread each never wait for each other.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import torch

_Piece = Callable[[], None]

#: Each team has the activations of an image in memory.
_MOST_TEAMS = 4


def teams_of(threads: int, pieces: int) -> int:
    """Teams of equal size that share the threads, at most one for each piece."""
    return max(teams for teams in range(1, min(pieces, _MOST_TEAMS) + 1) if threads % teams == 0)


class Teams:
    """Runs pieces of work. The threads of the teams sleep while there is none."""

    def __init__(self, threads: int) -> None:
        """Divide so many threads of torch."""
        self._threads = threads
        #: Images that fill all teams.
        self.most = teams_of(threads, _MOST_TEAMS)
        self._pool = ThreadPoolExecutor(self.most, thread_name_prefix="team")

    def run(self, pieces: Sequence[_Piece]) -> None:
        """Run all pieces; ends when the last one has ended. A piece without others runs in the calling thread.

        Raises:
            Exception: the first error of a piece.
        """
        rest = list(pieces)
        while rest:
            teams = teams_of(self._threads, len(rest))
            group, rest = rest[:teams], rest[teams:]
            if teams == 1:
                group[0]()
            else:
                self._run_side_by_side(group, self._threads // teams)

    def _run_side_by_side(self, pieces: Sequence[_Piece], threads: int) -> None:
        running = [self._pool.submit(_run_with, threads, piece) for piece in pieces]
        wait(running)
        # A team has changed the number that threads have which begin later.
        torch.set_num_threads(torch.get_num_threads())
        for each in running:
            each.result()


def _run_with(threads: int, piece: _Piece) -> None:
    # The first question sets the number of a new thread, to that of all threads.
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    with torch.inference_mode():
        piece()
