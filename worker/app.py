"""The worker's composition root: settings in, a Celery worker with its engine out."""

import functools
import math
import os
from collections.abc import Callable
from typing import TypeVar

from celery import Celery, signals
from sqlalchemy import Engine

from db import queries, views
from db.session import make_engine, transaction
from dropline.errors import DroplineError
from dropline.log import configure_logging, get_logger
from dropline.scaling.factory import make_sleeper, rules_of
from dropline.settings import Settings, load_settings
from dropline.storage.objects import make_store
from worker.celery_app import make_celery, run_worker
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine_keeper import EngineKeeper
from worker.pipeline import Pipeline
from worker.recovery import recover
from worker.sleeping import SleepTimer
from worker.steps import install_steps, send_recovery
from worker.tasks import register_tasks

log = get_logger(__name__)

T = TypeVar("T")


def main() -> int:
    """Run a worker until it is told to stop: the process's exit code."""
    settings = load_settings()
    configure_logging(settings.log.level, settings.log.format, "worker")
    return run_worker(build(settings), settings)


def build(settings: Settings, *, engine_module: str = "worker.engine.runtime") -> Celery:
    """Everything a worker consists of, wired; nothing is started and nothing connected.

    Args:
        settings: of this process.
        engine_module: what the engine's process runs.

    Raises:
        SettingsError: a needed setting is missing.
    """
    app = make_celery(settings)
    engine = EngineProcess(settings.engine, settings.log, module=engine_module)
    keeper = EngineKeeper(engine, settings.engine.start_timeout_s, settings.engine.request_timeout_s)
    database = once_per_process(lambda: make_engine(settings.database, "dropline-worker", pool_size=1))
    pipeline = once_per_process(
        lambda: Pipeline(database(), make_store(settings), EngineClient(engine.address, engine.authkey), settings)
    )
    register_tasks(
        app,
        pipeline,
        lambda head, enqueue, finished, resting_s: recover(
            database(), head, enqueue, finished, settings.worker.recovery_batch, resting_s
        ),
        lambda row_id: release(database(), row_id),
    )
    sleep_timer = _sleep_timer(app, settings, database)
    install_steps(app, keeper, sleep_timer, recover_on_start=settings.worker.recover_on_start)
    _connect_signals(keeper)
    return app


def once_per_process(build_one: Callable[[], T]) -> Callable[[], T]:
    """Build on first use, and again after a fork: connections must not be shared with a parent."""

    @functools.lru_cache(maxsize=1)
    def of_process(_pid: int) -> T:
        return build_one()

    return lambda: of_process(os.getpid())


def release(database: Engine, row_id: int) -> None:
    """Free the lease of a row whose child is dead; if Postgres is away, the lease runs out by itself."""
    try:
        with transaction(database) as connection:
            queries.release_lease(connection, row_id)
    except DroplineError as error:
        log.warning("lease_not_released", row_id=row_id, error=str(error))


def unfinished(database: Engine) -> bool:
    """Whether there is anything to stay awake for.

    Raises:
        DatabaseUnavailable: that is not known.
    """
    with transaction(database) as connection:
        return views.unfinished(connection)


def quiet_s(database: Engine) -> float:
    """Seconds since any worker captioned an image: Redis gives its messages to a pool's workers in turn.

    Raises:
        DatabaseUnavailable: that is not known.
    """
    with transaction(database) as connection:
        found = views.seconds_since_caption(connection)
    return math.inf if found is None else found


def _sleep_timer(app: Celery, settings: Settings, database: Callable[[], Engine]) -> SleepTimer | None:
    """None where there is no pool to put to sleep."""
    if not settings.pool.name:
        return None
    sleeper = once_per_process(
        lambda: make_sleeper(settings.pool, settings.broker, lambda: unfinished(database()))
    )
    # Longer than any row rests between two tries.
    resting_s = settings.worker.retry_cap_s + settings.lease_s
    timer = SleepTimer(
        sleeper, rules_of(settings.pool), lambda: send_recovery(app, resting_s), lambda: quiet_s(database())
    )

    @signals.task_received.connect(weak=False)
    def _not_idle(**_: object) -> None:
        timer.touch()

    return timer


def _connect_signals(keeper: EngineKeeper) -> None:
    # Receivers are kept weakly by default, and nothing else holds these.
    @signals.setup_logging.connect(weak=False)
    def _keep_our_logging(**_: object) -> None:
        """With a receiver here, Celery leaves the logging as it is."""

    @signals.worker_ready.connect(weak=False)
    def _say_ready(**_: object) -> None:
        log.info("worker_ready", pid=os.getpid())

    @signals.worker_shutdown.connect(weak=False)
    def _stop_engine(**_: object) -> None:
        keeper.stop()
