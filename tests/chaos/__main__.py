"""`python -m tests.chaos`: the whole run, or a shorter one; exit status 1 where something is wrong."""

import argparse
import math
import random
import secrets
import sys
import time

from tests.chaos.plan import CONTROL, MEDIUM, SHORT, Dose, Fault, make_plan, most_repeated
from tests.chaos.run import carry_out
from tests.chaos.stage import CHILDREN, TIME_LIMIT_S, WORKERS
from tests.chaos.verdict import Verdict, judge
from tests.support.services import open_directory

#: The control has to show the loss, which no longer wait mends.
_CONTROL_REST_S = 90.0


def main() -> int:
    """Run, judge and print."""
    arguments = _parser().parse_args()
    seed = secrets.randbelow(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    verdict = _run(arguments.dose, seed, arguments.rest, is_control=arguments.dose is CONTROL)
    for name, number in verdict.counts.items():
        print(f"{number:8} {name}")
    print(f"{time.monotonic() - began:8.0f} seconds")
    print(
        "\n".join(verdict.faults) or "nothing lost, nothing stuck, nothing repeated that the deaths do not explain"
    )
    if arguments.dose is CONTROL:
        print("the control has lost rows, as it must" if verdict.faults else "the control has lost nothing")
        return 0 if verdict.faults else 1
    return 1 if verdict.faults else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="the run to repeat; its plan is the same, its timing is not")
    doses = parser.add_mutually_exclusive_group()
    for name, dose, meaning in (
        ("--short", SHORT, "what runs with the tests"),
        ("--medium", MEDIUM, "500 objects and 40 faults"),
        ("--control", CONTROL, "workers that do not look for rows: rows must be lost, else exit status 1"),
    ):
        doses.add_argument(name, dest="dose", action="store_const", const=dose, default=Dose(), help=meaning)
    parser.add_argument(
        "--rest", type=float, default=900.0, help="longest wait for the end, in seconds (%(default)s)"
    )
    return parser


def _run(dose: Dose, seed: int, rest_s: float, *, is_control: bool) -> Verdict:
    plan = make_plan(dose, random.Random(seed))
    with open_directory() as directory:
        found = carry_out(
            plan,
            directory,
            seed,
            _CONTROL_REST_S if is_control else rest_s,
            lambda line: print(line, flush=True),
            outage_s=dose.outage_s,
            looks_for_rows=not is_control,
        )
    outages = math.ceil(dose.outage_s / TIME_LIMIT_S) + 1
    most = most_repeated(plan, WORKERS, CHILDREN, outages=outages, lost_with_engines=found.lost_with_engines)
    verdict = judge(found, most)
    faults = {"faults": sum(isinstance(step, Fault) for step in plan), "repetitions that the deaths explain": most}
    return Verdict(verdict.faults, verdict.counts | faults)


if __name__ == "__main__":
    sys.exit(main())
