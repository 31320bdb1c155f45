"""`python -m tests.chaos.redo`: a redo of 2,000 rows under kills; exit status 1 where something is wrong."""

import argparse
import sys
import time
from contextlib import ExitStack, closing

from local_emulators import gcs, postgres, redis
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade
from tests.support.redo_run import RedoRun, Report
from tests.support.services import open_directory
from tests.support.worker_rig import Rig, open_rig


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
    with ExitStack() as running:
        directory = running.enter_context(open_directory())
        supervisor = running.enter_context(Supervisor(directory / "logs"))
        ports = free_ports(4)
        server = postgres.start(supervisor, directory / "postgres", ports[0], "test", "fsync=off")
        server.create_database("redo")
        upgrade(server.url_for("redo"))
        broker = redis.start(supervisor, directory / "redis", ports[1], "test")
        storage = gcs.start(supervisor, ports[2], ports[3])
        failpoints = directory / "failpoints"
        failpoints.mkdir()
        rig = Rig(server.url_for("redo"), broker.url, storage.url, "redo", failpoints, supervisor)
        running.enter_context(open_rig(rig))
        run = running.enter_context(closing(RedoRun(rig, broker, rows, timeout_s, ends_leases=False)))
        return run.carry_out(worker_kills, redis_kills)


if __name__ == "__main__":
    sys.exit(main())
