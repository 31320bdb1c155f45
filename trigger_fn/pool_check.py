"""The check that follows each call to wake the worker pool: is a worker ready, and if not, why, and what now.

Cloud Tasks calls the function for it; see `docs/decisions/0023-a-pool-that-cannot-start.md`. A check that finds no
worker while rows are due has the next one called, after a pause that doubles up to an hour. All else ends them.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from db import due_rows, pool_problems, workers
from db.pool_problems import PoolProblem
from db.session import Database
from dropline.broker.workers import AliveWorkers, NotListed
from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.scaling.activation import Activator, check_pause_s
from dropline.scaling.errors import PoolChanging
from dropline.scaling.pool_document import PoolDocument
from dropline.scaling.protocol import SLEEPING, ScalingPolicy, held_fingerprint
from dropline.scaling.wake_queue import WakeQueue
from dropline.scaling.worker_pool import CloudRunWorkerPool
from trigger_fn.intake import Outcome

log = get_logger(__name__)

#: Seconds that Cloud Run may wait for the end of an operation, minutes after its beginning.
_WAIT_S = 2.0
#: Seconds by which a check may be late. Fewer than an idle period has by default: a worker that was killed at the
#: end of one had started longer before the wake-up.
_LATE_S = 60.0


@dataclass(frozen=True, slots=True)
class CheckRequest:
    """What a task of Cloud Tasks says."""

    #: Counted from 0 at the call that woke the worker pool.
    number: int = 0
    #: Cloud Run's operation, or empty.
    operation: str = ""


class PoolCheck:
    """Checks the worker pool. Threads may share it."""

    def __init__(
        self,
        name: str,
        policy: ScalingPolicy,
        database: Database,
        activator: Activator,
        pool: CloudRunWorkerPool,
        wakes: WakeQueue | None,
        read_workers: Callable[[], AliveWorkers | NotListed],
    ) -> None:
        self._name = name
        self._policy = policy
        self._database = database
        self._activator = activator
        self._pool = pool
        self._wakes = wakes
        self._read_workers = read_workers
        self._one_check = threading.Lock()

    def run(self, request: CheckRequest) -> Outcome:
        """Check once; a repetition is harmless.

        Raises:
            DroplineError: the check must be repeated.
        """
        with self._one_check:
            return self._run(request)

    def _run(self, request: CheckRequest) -> Outcome:
        with self._database.transaction() as connection:
            problem = pool_problems.find(connection, self._name)
            due_in_s = due_rows.rest(connection)
        if problem is not None and not problem.is_turn_of(request.number):
            return _outcome("another check runs")
        if due_in_s is None:
            return self._end(problem, "no row waits")
        if self._is_worker_ready(request.number):
            return self._end(problem, "a worker is ready")
        pause_s = check_pause_s(self._policy, request.number + 1)
        if due_in_s > pause_s:
            outcome = self._end(problem, "no row is due")
            self._arrange(due_in_s, 0)
            return outcome
        return self._wake(request, problem, pause_s)

    def _wake(self, request: CheckRequest, problem: PoolProblem | None, pause_s: float) -> Outcome:
        mark = self._activator.read_mark()
        if mark is not None and mark.startswith(SLEEPING):
            raise PoolChanging("a worker is scaling the worker pool to zero; check again")
        document = self._pool.read()
        if (held := held_fingerprint(mark)) is not None and held == document.fingerprint:
            return self._stay_held(request, problem, pause_s)
        if held is not None or document.instances == 0:
            # Another image or other settings; or an apply, or a person, has set 0 while the mark was `awake`.
            log.warning("pool_was_at_zero", instances=document.instances, held=held is not None)
            outcome = self._end(problem, "woken")
            self._activator.scale_up_again(0)
            return outcome
        reason = self._find_reason(request.operation, document)
        if not reason and request.number == 0:
            # The image of a worker has gigabytes: the first start on a machine may take this long.
            self._arrange(pause_s, 1)
            return _outcome("a worker is slow to start")
        reason = reason or "Cloud Run names no reason: read the log of the worker pool"
        log.error("pool_without_worker", error=reason, number=request.number)
        return self._try_again(request, reason, pause_s)

    def _stay_held(self, request: CheckRequest, problem: PoolProblem | None, pause_s: float) -> Outcome:
        if problem is None or not problem.is_permanent:
            # A hub that was away, for example: one start per pause, which costs minutes of a GPU in an hour.
            return self._try_again(request, "the workers could not start", pause_s)
        self._arrange(pause_s, request.number + 1)
        self._record(request, problem.reason, pause_s)
        return _outcome("held")

    def _try_again(self, request: CheckRequest, reason: str, pause_s: float) -> Outcome:
        try:
            self._activator.scale_up_again(request.number + 1)
        except DroplineError as error:
            log.warning("pool_not_woken", code=error.code, error=str(error))
            self._arrange(pause_s, request.number + 1)
        # After the next task is there: a check that dies in between is repeated.
        self._record(request, reason, pause_s)
        return _outcome("tried again")

    def _find_reason(self, operation: str, document: PoolDocument) -> str:
        """The error of the operation and the conditions that are not met; empty: none."""
        found = [document.failure]
        if operation:
            try:
                state = self._pool.wait(operation, _WAIT_S)
            except DroplineError as error:
                log.info("operation_not_read", operation=operation, code=error.code, error=str(error))
            else:
                under_way = "" if state.done else "Cloud Run has not ended the change"
                found.insert(0, state.failure or under_way)
        return "; ".join(each for each in found if each)

    def _is_worker_ready(self, number: int) -> bool:
        match self._read_workers():
            case AliveWorkers(names):
                return bool(names)
            case NotListed(reason):
                # A killed worker leaves its row open, so an open row is not enough: the worker must have become
                # ready, or begun an image, since the call that this check follows.
                within_s = check_pause_s(self._policy, number) + _LATE_S
                with self._database.transaction() as connection:
                    is_active = workers.is_any_active(connection, within_s)
                log.info("workers_not_listed", error=reason, is_active=is_active)
                return is_active

    def _end(self, problem: PoolProblem | None, result: str) -> Outcome:
        """End these checks. Call before a new check 0 is arranged: otherwise it would count as a second chain."""
        if problem is not None:
            with self._database.transaction() as connection:
                pool_problems.end_checks(connection, self._name)
        return _outcome(result)

    def _record(self, request: CheckRequest, reason: str, pause_s: float) -> None:
        with self._database.transaction() as connection:
            pool_problems.record_check(connection, self._name, request.number, reason, pause_s)

    def _arrange(self, in_s: float, number: int) -> None:
        """Arrange the next check. Raises the errors of `WakeQueue.arrange_check`: this check is then repeated."""
        if self._wakes is not None:
            self._wakes.arrange_check(in_s, number)


def _outcome(result: str) -> Outcome:
    return Outcome("pool_checked", {"result": result})
