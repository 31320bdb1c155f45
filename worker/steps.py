"""Celery bootsteps: the engine comes before the first task, and every (re)connection starts a recovery."""

from typing import Any

from celery import Celery, bootsteps
from celery.worker import state
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dropline.contract import RECOVER_TASK, RECOVERY_QUEUE
from dropline.errors import DroplineError
from dropline.log import get_logger
from worker.celery_app import end_blocking_pop
from worker.engine_keeper import EngineKeeper
from worker.sleeping import SleepTimer

log = get_logger(__name__)


def install_steps(
    app: Celery, keeper: EngineKeeper, sleep_timer: SleepTimer | None, *, recover_on_start: bool
) -> None:
    """Add the steps to the app's worker and consumer blueprints."""
    app.steps["worker"].add(_engine_step(keeper))
    app.steps["consumer"].add(_recovery_step(keeper, recover_on_start))
    if sleep_timer is not None:
        app.steps["consumer"].add(_sleep_step(sleep_timer))


def _engine_step(keeper: EngineKeeper) -> type[bootsteps.StartStopStep]:
    class EngineStep(bootsteps.StartStopStep):
        """Starts the engine before the consumer; `worker_shutdown` stops it, after everything else."""

        requires = ("celery.worker.components:Hub",)

        def start(self, parent: Any) -> None:
            try:
                keeper.start(parent.hub, parent, state.maybe_shutdown)
            except DroplineError as error:
                log.error("engine_not_started", error=str(error))
                raise SystemExit(1) from error

    return EngineStep


def _recovery_step(keeper: EngineKeeper, recover_on_start: bool) -> type[bootsteps.StartStopStep]:
    class RecoveryStep(bootsteps.StartStopStep):
        """Runs at every start of the consumer: when the worker is ready and when it has reconnected."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            keeper.resume()
            if recover_on_start:
                # In the loop's second round, when the BRPOP is armed: a Redis that loses the message after that
                # breaks this connection, and so starts the next recovery.
                soon = parent.hub.call_soon
                soon(lambda: soon(lambda: send_recovery(parent.app)))

        def stop(self, parent: Any) -> None:
            end_blocking_pop(parent.app)

    return RecoveryStep


def _sleep_step(timer: SleepTimer) -> type[bootsteps.StartStopStep]:
    class SleepStep(bootsteps.StartStopStep):
        """Counts the idle time from each start of the consumer on."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            timer.start(parent.hub)

        def stop(self, parent: Any) -> None:  # noqa: ARG002 - Celery gives it
            timer.stop()

    return SleepStep


def send_recovery(app: Celery, resting_s: float = 0.0) -> None:
    """Have rows looked for that Redis does not know of.

    Args:
        app: of this worker.
        resting_s: rows that were tried and put back within so many seconds are known to a living worker.
    """
    try:
        app.send_task(RECOVER_TASK, [resting_s] if resting_s else [], queue=RECOVERY_QUEUE, retry=False)
    except (OperationalError, RedisError) as error:
        # The consumer shares the broker's fate: it will reconnect, and this step will start again.
        log.warning("recovery_not_sent", error=str(error))
