"""`python -m tests.chaos.redo`: a redo of 2,000 rows under kills; exit status 1 where something is wrong."""

import argparse
import sys
import time
from contextlib import closing

from tests.chaos.services import running_rig
from tests.support.redo_run import RedoRun, Report


def main() -> int:
    """Run, judge and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.redo", description=__doc__)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--worker-kills", type=int, default=10)
    parser.add_argument("--redis-kills", type=int, default=5)
    parser.add_argument("--timeout", type=float, default=600.0, help="longest wait for captions, in seconds")
    arguments = parser.parse_args()
    began = time.monotonic()
    report = _run(arguments.rows, arguments.worker_kills, arguments.redis_kills, arguments.timeout)
    for name, number in report.counts.items():
        print(f"{number:8} {name}")
    print(f"{time.monotonic() - began:8.0f} seconds")
    print("\n".join(report.faults) or "each row once, and its old caption until then")
    return 1 if report.faults else 0


def _run(rows: int, worker_kills: int, redis_kills: int, timeout_s: float) -> Report:
    with (
        running_rig("redo") as (rig, broker),
        closing(RedoRun(rig, broker, rows, timeout_s, ends_leases=False)) as run,
    ):
        return run.carry_out(worker_kills, redis_kills)


if __name__ == "__main__":
    sys.exit(main())
