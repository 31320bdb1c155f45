"""The stack under attack: the local cloud, with workers that count inferences and a worker pool that sleeps."""

import dataclasses
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import kill
from pathlib import Path

import psycopg
import redis
from sqlalchemy.engine import make_url

from dropline.contract import CAPTION_QUEUE
from local_emulators.directory import Passwords
from local_emulators.options import StackOptions
from local_emulators.postgres import SUPERUSER
from local_emulators.stack import Stack
from local_emulators.supervisor import Service, Supervisor
from tests.chaos.plan import Fault
from tests.chaos.workers import Workers, start
from tests.support import fake_cloud_run, gcs_proxy
from tests.support.failpoints import DIRECTORY_VARIABLE, INFERENCE_VARIABLE, engines_dying
from tests.support.fake_cloud_run import POOL
from tests.support.gcs_proxy import GcsProxy
from tests.support.processes import children
from tests.support.system_faults import SystemFaults, build_system_faults

WORKERS = 2
#: Children of each worker, and so images at work.
CHILDREN = 2
#: Slower than the uploads, so that images wait and a killed process was at work.
_INFERENCE_S = 0.1
_CLOCK_OFF_S = 600
#: A child drops its image after this; the soft limit.
TIME_LIMIT_S = 10
#: Short limits make short leases: a run waits for the end of the last lease.
_ENVIRONMENT = {
    "DROPLINE_IMAGES__DECODE_TIMEOUT_S": "9",
    "DROPLINE_WORKER__SOFT_TIME_LIMIT_S": str(TIME_LIMIT_S),
    "DROPLINE_WORKER__TIME_LIMIT_S": "15",
    "DROPLINE_WORKER__RETRY_BASE_S": "0.1",
    "DROPLINE_WORKER__RETRY_CAP_S": "2",
    "DROPLINE_BROKER__POLLING_INTERVAL_S": "2",
    "DROPLINE_POOL__NAME": POOL,
    "DROPLINE_POOL__IDLE_S": "2",
}


class Stage:
    """A running stack with two workers, and the ways to attack the stack."""

    def __init__(
        self,
        stack: Stack,
        workers: Workers,
        storage: GcsProxy,
        system_faults: SystemFaults,
        directory: Path,
        rng: random.Random,
        outage_s: float,
    ) -> None:
        self.stack = stack
        self.workers = workers
        #: The directory with the counted inferences.
        self.failpoints = directory
        self._storage = storage
        self._system_faults = system_faults
        self._rng = rng
        self._outage_s = outage_s
        self._acts: dict[Fault, Callable[[], object]] = {
            Fault.WORKER_KILLED: self._kill_worker,
            Fault.WORKER_STOPPED: self._restart_worker,
            Fault.CHILD_KILLED: lambda: self._kill_one_of("failpoint_worker"),
            Fault.ENGINE_KILLED: lambda: self._kill_one_of("failpoint_engine"),
            Fault.REDIS_RESTARTED: lambda: self._restart_redis(with_data=True),
            Fault.REDIS_LOST: lambda: self._restart_redis(with_data=False),
            Fault.REDIS_HALVED: self._halve_redis,
            Fault.REDIS_EMPTIED: self._empty_redis,
            Fault.POSTGRES_RESTARTED: self._restart_postgres,
            Fault.FUNCTION_KILLED: self._kill_function,
            Fault.ENGINES_DIE: self._let_engines_die,
            Fault.DISK_FULL: self._fill_disk,
            Fault.ROLE_REVOKED: self._revoke_role,
            Fault.BUCKET_ROLE_REVOKED: self._revoke_bucket_role,
            Fault.CLOCK_OFF: self._set_clock_off,
            Fault.ALL_LOST: self._lose_all,
        }

    def inflict(self, fault: Fault) -> None:
        """Cause a fault, and end it: what was killed or stopped is started again."""
        self._acts[fault]()

    def _kill_worker(self) -> None:
        with self.workers.held() as workers:
            for worker in self._one_of(workers):
                worker.kill(signal.SIGKILL)
                start(worker)

    def _restart_worker(self) -> None:
        with self.workers.held() as workers:
            for worker in self._one_of(workers):
                worker.stop()
                start(worker)

    def _kill_one_of(self, program: str) -> None:
        with self.workers.held() as workers:
            for worker in self._one_of(workers):
                with suppress(ProcessLookupError, FileNotFoundError):  # a process may have died by itself
                    found = [pid for pid, child in children(worker.pid).items() if program in child.command_line]
                    if found:  # or no such process may run at the moment
                        kill(self._rng.choice(found), signal.SIGKILL)

    def _one_of(self, workers: list[Service]) -> list[Service]:
        """One worker; none while the pool sleeps."""
        return [self._rng.choice(workers)] if workers else []

    def _restart_redis(self, *, with_data: bool) -> None:
        server = self.stack.services["redis"]
        server.kill()
        if not with_data:
            assert server.command.cwd is not None
            shutil.rmtree(server.command.cwd / "appendonlydir")
        server.start()

    def _halve_redis(self) -> None:
        with self._redis() as client:
            client.ltrim(CAPTION_QUEUE, 0, max(0, client.llen(CAPTION_QUEUE) // 2 - 1))

    def _empty_redis(self) -> None:
        with self._redis() as client:
            client.flushall()

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.stack.environment["DROPLINE_BROKER__URL"])

    def _lose_all(self) -> None:
        with self.workers.held() as workers:
            for worker in workers:
                worker.kill(signal.SIGKILL)
            self._empty_redis()
            for worker in workers:
                start(worker)

    def _restart_postgres(self) -> None:
        self.stack.services["postgres"].kill()
        self.stack.services["postgres"].start()

    def _kill_function(self) -> None:
        function = self.stack.services["function"]
        function.kill_group()
        function.start()

    def _let_engines_die(self) -> None:
        with engines_dying(self.failpoints):
            self._last()

    def _fill_disk(self) -> None:
        with self._system_faults.disk_full():
            self._last()
        postgres = self.stack.services["postgres"]
        if not postgres.alive:  # without room for its log of changes, Postgres ends
            postgres.start()

    def _revoke_role(self) -> None:
        self._administer("REVOKE UPDATE ON captions FROM dropline_worker")
        try:
            self._last()
        finally:
            self._administer("GRANT UPDATE ON captions TO dropline_worker")

    def _administer(self, statement: str) -> None:
        passwords = Passwords.load_or_make(self.stack.options.directory / "passwords.json")
        url = make_url(self.stack.environment["DATABASE_URL"])
        url = url.set(username=SUPERUSER, password=passwords.postgres)
        with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as admin:
            admin.execute(statement.encode())

    def _revoke_bucket_role(self) -> None:
        for method in ("GET", "PATCH"):
            self._storage.fail(method, 403, times=1_000_000)
        self._last()
        self._storage.recover()

    def _set_clock_off(self) -> None:
        """The worker starts with a clock that is ahead or behind, and keeps it."""
        offset = self._system_faults.clock_off_by(self._rng.choice((-_CLOCK_OFF_S, _CLOCK_OFF_S)))
        with self.workers.held() as workers:
            for worker in self._one_of(workers):
                environment = {**worker.command.environment, **offset}
                worker.command = dataclasses.replace(worker.command, environment=environment)
                worker.stop()
                start(worker)

    def _last(self) -> None:
        """Let the fault last."""
        threading.Event().wait(self._outage_s)


@contextmanager
def open_stage(
    directory: Path, rng: random.Random, outage_s: float, *, looks_for_rows: bool = True
) -> Iterator[Stage]:
    """Start the stack in `directory`, and stop the stack at the end.

    Args:
        directory: for the state of the stack.
        rng: chooses the process that a fault hits.
        outage_s: duration of the faults that last.
        looks_for_rows: False for the control, whose workers do not look at the queue in Postgres.
    """
    failpoints = directory / "failpoints"
    failpoints.mkdir()
    system_faults = build_system_faults(directory)
    with ExitStack() as running:
        cloud_run = running.enter_context(fake_cloud_run.serve())
        options = StackOptions(
            directory / "stack",
            port_base=0,
            model="stub",
            concurrency=CHILDREN,
            environment=_ENVIRONMENT
            | {
                "DROPLINE_POOL__API": cloud_run.url,
                "DROPLINE_WORKER__LOOK_FOR_ROWS": str(looks_for_rows).lower(),
            },
        )
        stack = running.enter_context(Stack(options))
        stack.services["gallery"].stop()
        _on_small_disk(stack.services["postgres"], system_faults)
        # The emulator lacks preconditions: a late write-back would reach a newer version.
        storage = running.enter_context(gcs_proxy.serve(stack.environment["STORAGE_EMULATOR_HOST"]))
        supervisor = running.enter_context(Supervisor(directory / "logs"))
        variables = {
            DIRECTORY_VARIABLE: str(failpoints),
            INFERENCE_VARIABLE: str(_INFERENCE_S),
            "STORAGE_EMULATOR_HOST": storage.url,
        }
        services = _start_workers(supervisor, stack.services["worker"], variables)
        workers = running.enter_context(Workers(services, cloud_run))
        yield Stage(stack, workers, storage, system_faults, failpoints, rng, outage_s)


def _on_small_disk(postgres: Service, system_faults: SystemFaults) -> None:
    environment = {**postgres.command.environment, **system_faults.on_small_disk}
    postgres.command = dataclasses.replace(postgres.command, environment=environment)
    postgres.restart()


def _start_workers(supervisor: Supervisor, plain: Service, variables: dict[str, str]) -> list[Service]:
    """Workers with failpoints, in place of the stack's worker."""
    plain.stop()
    return [
        supervisor.start(
            dataclasses.replace(
                plain.command,
                name=f"worker-{number}",
                argv=(sys.executable, "-m", "tests.support.failpoint_worker"),
                environment={**plain.command.environment, **variables},
            )
        )
        for number in range(1, WORKERS + 1)
    ]
