"""`python -m tests.chaos`: the whole run, or a shorter one; exit status 1 where something is wrong."""

import argparse
import random
import secrets
import sys
import time

from tests.chaos.plan import SHORT, Dose, make_plan, most_repeated
from tests.chaos.run import carry_out
from tests.chaos.stage import CHILDREN, WORKERS
from tests.chaos.verdict import judge
from tests.support.services import open_directory


def main() -> int:
    """Run, judge and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the run to repeat; its plan is the same, its timing is not")
    parser.add_argument("--short", action="store_true", help="what runs with the tests")
    parser.add_argument(
        "--rest", type=float, default=600.0, help="longest wait for the end, in seconds (%(default)s)"
    )
    arguments = parser.parse_args()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    plan = make_plan(SHORT if arguments.short else Dose(), random.Random(seed))
    with open_directory() as directory:
        found = carry_out(plan, directory, seed, arguments.rest, lambda line: print(line, flush=True))
    verdict = judge(found, most_repeated(plan, WORKERS, CHILDREN))
    for name, number in verdict.counts.items():
        print(f"{number:8} {name}")
    print(f"{time.monotonic() - began:8.0f} seconds")
    print(
        "\n".join(verdict.faults) or "nothing lost, nothing stuck, nothing repeated that the deaths do not explain"
    )
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
