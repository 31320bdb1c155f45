"""`python -m tests.chaos.deaths`: faults 15 and 16 in the long form; exit status 1 where something is wrong.

Child, worker and engine are killed with SIGKILL at each step of an image, 20 times each. A row with three lost
attempts is set aside, so each round has new images and two deaths at most.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg

from local_emulators.supervisor import Service
from tests.chaos.services import running_rig
from tests.support.engines import wait_until
from tests.support.failpoints import arm, armed, inferences
from tests.support.worker_rig import DEADLINE_S, Rig, png

_STEPS = ("claimed", "downloaded", "before-commit", "committed", "patched", "before-acknowledge")
_LABEL = 13


@dataclass(frozen=True)
class Death:
    """A process, and the step at which it is killed."""

    #: `child`, `worker`, `engine`, or `message`: the worker, after it has taken a message from Redis.
    victim: str
    stage: str
    #: Deaths and images of a round.
    deaths: int
    images: int
    #: What `arm` names the process.
    token: str
    #: The worker ends, and another one is started.
    ends_worker: bool = False

    @property
    def repeats_inference(self) -> bool:
        """Whether a death may cost one inference: the caption is made, and not in Postgres."""
        return self.stage in ("before-commit", "inference")


DEATHS = (
    *(Death("child", stage, 2, 3, "child") for stage in _STEPS),
    Death("engine", "inference", 1, 1, "engine"),
    # The failpoint is reached by the worker's parent itself.
    Death("message", "append", 1, 1, "engine", ends_worker=True),
    *(Death("worker", stage, 1, 2, "parent", ends_worker=True) for stage in _STEPS),
)


class DeathRun:
    """Rounds of deaths, with one worker after another."""

    def __init__(self, rig: Rig, *, waits_for_leases: bool) -> None:
        self._rig = rig
        self._waits_for_leases = waits_for_leases
        self._images = 0
        self._workers = 0
        self._worker = self._start(1)

    def carry_out(self, death: Death, number: int) -> Iterator[str]:
        """Kill `number` times; the faults that were found."""
        rest = number
        # One child alone: the death of a worker then explains one inference, not one for each child.
        self._worker.stop()
        self._worker = self._start(1 if death.ends_worker else 2)
        while rest:
            deaths = min(rest, death.deaths)
            yield from self._round(death, deaths)
            rest -= deaths

    def _round(self, death: Death, deaths: int) -> Iterator[str]:
        rig = self._rig
        arm(rig.directory, death.stage, death.token, times=deaths)
        colours = [self._colour() for _ in range(death.images)]
        ids = [rig.drop(f"{bytes(colour).hex()}.png", png(colour)) for colour in colours]
        if death.ends_worker:
            self._replace()
        rows = rig.wait_settled(ids)
        wait_until(lambda: not armed(rig.directory))
        for row in rows:
            if (row["status"], row["error"]) != ("captioned", None) or row["metadata_written_at"] is None:
                yield f"row {row['id']}: {row['status']}, {row['error']}, written {row['metadata_written_at']}"
            if row["caption"] != row["object_name"].removesuffix(".png"):
                yield f"row {row['id']} has the caption {row['caption']!r}"
        labels = [bytes(colour).hex() for colour in colours]
        ran = sum(label in labels for label in inferences(rig.directory))
        most = death.images + deaths * death.repeats_inference
        if not death.images <= ran <= most:
            yield f"{ran} inferences of {death.images} images; {deaths} deaths explain {most}"

    def _replace(self) -> None:
        """Wait until the worker has died, and start the next one."""
        if not self._worker.wait_for_exit(DEADLINE_S):
            raise TimeoutError("the worker was not killed")
        if not self._waits_for_leases:
            with psycopg.connect(self._rig.database_url) as connection:
                connection.execute("UPDATE captions SET lease_until = now() WHERE lease_until > now()")
        self._worker = self._start(1)

    def _start(self, children: int) -> Service:
        self._workers += 1
        return self._rig.worker(f"worker-{self._workers}", DROPLINE_WORKER__CONCURRENCY=str(children))

    def _colour(self) -> tuple[int, int, int]:
        self._images += 1
        return (*divmod(self._images, 256), _LABEL)


def main() -> int:
    """Run, judge and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.deaths", description=__doc__)
    parser.add_argument("--deaths", type=int, default=20, help="of each process at each step (%(default)s)")
    victims = sorted({death.victim for death in DEATHS})
    parser.add_argument("--victim", choices=victims, help="only this process")
    parser.add_argument(
        "--wait-for-leases",
        action="store_true",
        help="let the leases of a killed worker end by time, some minutes each; otherwise a statement ends them",
    )
    arguments = parser.parse_args()
    began = time.monotonic()
    faults: list[str] = []
    with running_rig("deaths") as (rig, _):
        run = DeathRun(rig, waits_for_leases=arguments.wait_for_leases)
        for death in DEATHS:
            if arguments.victim in (None, death.victim):
                found = list(run.carry_out(death, arguments.deaths))
                print(f"{arguments.deaths:4} {death.victim:8} {death.stage:20} {len(found)} faults", flush=True)
                faults += found
    print(f"{time.monotonic() - began:.0f} seconds")
    print("\n".join(faults) or "each row has its caption, in the metadata too; the deaths explain each inference")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
