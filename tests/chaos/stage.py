"""The stack under attack: the local cloud, with workers that count inferences."""

import dataclasses
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import kill
from pathlib import Path

from local_emulators.options import StackOptions
from local_emulators.stack import Stack
from local_emulators.supervisor import Service, Supervisor
from tests.chaos.plan import Fault
from tests.support.failpoints import DIRECTORY_VARIABLE, INFERENCE_VARIABLE
from tests.support.processes import children

WORKERS = 2
#: Children of each worker, and so images at work.
CHILDREN = 2
#: Slower than the uploads, so that images wait and a killed process was at work.
_INFERENCE_S = 0.1
#: Short limits make short leases: a run waits for the end of the last lease.
_ENVIRONMENT = {
    "DROPLINE_IMAGES__DECODE_TIMEOUT_S": "9",
    "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": "10",
    "DROPLINE_WORKER__TIME_LIMIT_S": "15",
    "DROPLINE_WORKER__RETRY_BASE_S": "0.1",
    "DROPLINE_WORKER__RETRY_CAP_S": "2",
    "DROPLINE_BROKER__POLLING_INTERVAL_S": "2",
}


class Stage:
    """A running stack with two workers, and the ways to attack the stack."""

    def __init__(self, stack: Stack, workers: list[Service], directory: Path, rng: random.Random) -> None:
        self.stack = stack
        self.workers = workers
        #: The directory with the counted inferences.
        self.failpoints = directory
        self._rng = rng

    def inflict(self, fault: Fault) -> None:
        """Cause a fault; a killed or stopped service is started again."""
        worker = self._rng.choice(self.workers)
        match fault:
            case Fault.WORKER_KILLED:
                worker.kill(signal.SIGKILL)
                worker.start()
            case Fault.WORKER_STOPPED:
                worker.restart()
            case Fault.CHILD_KILLED:
                self._kill_one_of(worker, "failpoint_worker")
            case Fault.ENGINE_KILLED:
                self._kill_one_of(worker, "failpoint_engine")
            case Fault.REDIS_RESTARTED | Fault.REDIS_LOST:
                self._restart_redis(with_data=fault is Fault.REDIS_RESTARTED)
            case Fault.POSTGRES_RESTARTED:
                self.stack.services["postgres"].kill()
                self.stack.services["postgres"].start()
            case Fault.FUNCTION_KILLED:
                function = self.stack.services["function"]
                function.kill_group()
                function.start()

    def _restart_redis(self, *, with_data: bool) -> None:
        redis = self.stack.services["redis"]
        redis.kill()
        if not with_data:
            assert redis.command.cwd is not None
            shutil.rmtree(redis.command.cwd / "appendonlydir")
        redis.start()

    def _kill_one_of(self, worker: Service, program: str) -> None:
        found = [pid for pid, child in children(worker.pid).items() if program in child.command_line]
        with suppress(ProcessLookupError):  # the process may have died by itself
            if found:  # or no such process may run at the moment
                kill(self._rng.choice(found), signal.SIGKILL)


@contextmanager
def open_stage(directory: Path, rng: random.Random) -> Iterator[Stage]:
    """Start the stack in `directory`, and stop the stack at the end."""
    failpoints = directory / "failpoints"
    failpoints.mkdir()
    options = StackOptions(
        directory / "stack", port_base=0, model="stub", concurrency=CHILDREN, environment=_ENVIRONMENT
    )
    with ExitStack() as running:
        stack = running.enter_context(Stack(options))
        supervisor = running.enter_context(Supervisor(directory / "logs"))
        plain = stack.services["worker"]
        plain.stop()
        variables = {DIRECTORY_VARIABLE: str(failpoints), INFERENCE_VARIABLE: str(_INFERENCE_S)}
        workers = []
        for number in range(WORKERS):
            command = dataclasses.replace(
                plain.command,
                name=f"worker-{number + 1}",
                argv=(sys.executable, "-m", "tests.support.failpoint_worker"),
                environment={**plain.command.environment, **variables},
            )
            workers.append(supervisor.start(command))
        yield Stage(stack, workers, failpoints, rng)
