"""The worker's composition root: from settings to a Celery worker with its engine."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Mapping, Set
from contextlib import closing
from typing import TypeVar

from billiard.process import current_process
from celery import Celery, signals

from db import breakers, claims, due_rows, reads
from db.due_signals import DueSignals
from db.session import Database
from db.start_check import WORKER
from dropline.broker.alarms import AlarmChannel
from dropline.broker.queue import CaptionQueue
from dropline.broker.workers import read_workers
from dropline.errors import (
    BrokerUnavailable,
    DatabaseUnavailable,
    DecoderUnavailable,
    DroplineError,
    SchemaOutdated,
)
from dropline.images.decoder import DecoderProcess
from dropline.images.sandbox import Measure
from dropline.log import configure_process_logging, get_logger
from dropline.scaling.activation import policy_from_settings
from dropline.scaling.deactivation import make_deactivator
from dropline.settings import Settings, load_settings
from dropline.storage.objects import make_store
from worker.alarm import Alarm
from worker.celery_app import make_celery, run_worker
from worker.children import Children, log_children, with_children
from worker.devices import with_devices
from worker.edit_signals import EditSignals
from worker.engines import Engines
from worker.failed_starts import FailedStarts
from worker.gate import Gate
from worker.health_port import EngineHealth, HealthPort
from worker.idle_timer import IdleTimer
from worker.memory import MemoryPlan, find_plan, log_plan
from worker.pipeline import Pipeline
from worker.registration import Registration
from worker.retention import Purge
from worker.steps import install_steps
from worker.tasks import register_tasks

log = get_logger(__name__)

#: Between two looks of which each purges a batch, in seconds.
_NEXT_PURGE_S = 1.0

T = TypeVar("T")


def main() -> int:
    """Run a worker until a signal stops the process; returns the exit code."""
    settings = load_settings()
    configure_process_logging(settings.log.level, settings.log.format, "worker")
    settings = with_devices(settings)
    try:
        app = build(settings)
        check_database(settings)
    except DroplineError as error:
        _failed_starts(settings).note(error)
        raise
    return run_worker(app, settings)


def check_database(settings: Settings) -> None:
    """Log in to Postgres once, before anything is started. A worker without Postgres starts, and waits for it.

    Raises:
        SettingsError: the URL is missing or wrong, or the database is not UTF8.
        SchemaOutdated: the database is another program's, is empty, or has an older schema.
        AccessDenied: the login lacks a right.
    """
    with closing(_connect(settings)) as database:
        try:
            database.check()
        except SchemaOutdated:
            raise
        except DatabaseUnavailable as error:
            log.warning("database_not_checked", code=error.code, error=str(error))


def _connect(settings: Settings) -> Database:
    return Database.connect(settings.database, "dropline-worker", WORKER, connections=1)


def build(
    settings: Settings,
    *,
    engine_module: str = "worker.engine.runtime",
    decoder_module: str = "dropline.images.decoder_process",
) -> Celery:
    """All parts of a worker, wired; no process is started and no connection opened.

    Args:
        settings: of this process.
        engine_module: the main module of the engine process.
        decoder_module: the main module of the decoder processes.

    Raises:
        SettingsError: a required setting is missing, or the processes do not fit in the memory.
    """
    settings, children = with_children(settings)
    plan = find_plan(settings)
    share = None if plan is None else plan.decoder_share(settings.images.decode_timeout_s)
    app = make_celery(settings)
    queue = CaptionQueue(app)
    engines = Engines(settings, engine_module)
    resources = ProcessResources(
        settings,
        engines,
        queue,
        app.connection_name,
        lambda: DecoderProcess(settings.images, share=share, module=decoder_module),
    )
    alarm = Alarm(app.connection_name, settings.lease_s + 1, resources.look, AlarmChannel(settings.broker))
    gate = Gate(
        settings.worker,
        resources.save_breaker,
        alarm.look,
        devices=engines.devices,
        set_trust=engines.board.set_trust,
    )
    register_tasks(app, resources, alarm, gate)
    idle_timer = _idle_timer(settings, resources, alarm)
    failed_starts = _failed_starts(settings, resources.due_in_s)
    registration = Registration(
        lambda: _connect(settings), app.connection_name, lambda: engines.loaded, failed_starts.clear
    )
    edit_signals = EditSignals(DueSignals(settings.database, "dropline-worker-edits"), alarm.look)
    install_steps(app, engines, queue, alarm, gate, idle_timer, registration, edit_signals, failed_starts.note)
    _connect_signals(engines, registration)
    _open_health_port(settings, engines)
    _report_memory(children, plan)
    _report_sandbox(DecoderProcess(settings.images, module=decoder_module))
    return app


def once_per_process(build_one: Callable[[], T]) -> Callable[[], T]:
    """Build on first use, and again after a fork: a child must not share connections with its parent."""

    @functools.lru_cache(maxsize=1)
    def of_process(_pid: int) -> T:
        return build_one()

    return lambda: of_process(os.getpid())


class ProcessResources:
    """Pipeline and database of the worker's parent and of each child; built on first use."""

    def __init__(
        self,
        settings: Settings,
        engines: Engines,
        queue: CaptionQueue,
        name: str,
        make_decoder: Callable[[], DecoderProcess],
    ) -> None:
        self._settings = settings
        self._engines = engines
        self._queue = queue
        self._name = name
        self._make_decoder = make_decoder
        self.database = once_per_process(self._make_database)
        self._purge = once_per_process(lambda: Purge(self.database, settings.retention))
        self.pipeline = once_per_process(self._make_pipeline)

    def wake(self, row_id: int) -> None:
        """Send a message with a row as the hint, unless as many messages wait as the worker has children.

        Raises:
            BrokerUnavailable: Redis is unreachable, or refuses writes.
        """
        self._queue.wake(row_id, self._settings.worker.concurrency)

    def look(self) -> float | None:
        """Send messages for due rows, one per child at most; the seconds until the next row is due, or None.

        Then purge rows of object versions that are gone. While many are left, the next look is soon.

        Raises:
            DatabaseUnavailable, BrokerUnavailable: look again.
        """
        if not self._settings.worker.look_for_rows:
            return None
        self._queue.restore_overdue()
        with self.database().statement() as connection:
            due = due_rows.look(connection, self._settings.worker.concurrency)
            oldest_s = due_rows.oldest_s(connection)
        for row_id in due.row_ids:
            self.wake(row_id)
        log.info("looked_at_queue", due=len(due.row_ids), next_in_s=due.next_in_s, oldest_s=round(oldest_s, 3))
        if self._purge().run():
            return min(_NEXT_PURGE_S, due.next_in_s or _NEXT_PURGE_S)
        return due.next_in_s

    def row_ended(self) -> None:
        """A child has ended a row: its share of the purges."""
        self._purge().row_ended()

    def release_lease(self, child: int) -> None:
        """Release engine and lease of a dead child; if Postgres is unreachable, the lease runs out later."""
        self._engines.board.forget(child)
        try:
            with self.database().statement() as connection:
                claims.release(connection, self._child_name(child))
        except DroplineError as error:
            log.warning("lease_not_released", child=child, error=str(error))

    def save_breaker(self, reason: str | None, lost_attempts: Mapping[int, int]) -> None:
        """Save the reason of an open breaker, or None, and give lost attempts back: their number by row.

        Raises:
            DatabaseUnavailable, AccessDenied: neither was done.
        """
        with self.database().transaction() as connection:
            breakers.record(connection, self._name, reason)
            breakers.give_back(connection, lost_attempts)

    def due_in_s(self) -> float | None:
        """Seconds until the first unfinished row is due: 0 if a row is due or at work, None if none is unfinished.

        Raises:
            DatabaseUnavailable: Postgres is unreachable.
        """
        with self.database().statement() as connection:
            return due_rows.rest(connection)

    def seconds_since_caption(self) -> float:
        """Seconds since any worker captioned an image: Redis gives messages to the workers in turn.

        Raises:
            DatabaseUnavailable: Postgres is unreachable.
        """
        with self.database().transaction() as connection:
            found = reads.seconds_since_last_caption(connection)
        return math.inf if found is None else found

    def _make_database(self) -> Database:
        return _connect(self._settings)

    def _make_pipeline(self) -> Pipeline:
        # A child has the index of the dead child that it replaces.
        client = self._engines.client(current_process().index)
        decoder = self._make_decoder()
        # The decoder process starts during the first download; `decode` starts it again where that fails.
        with contextlib.suppress(DecoderUnavailable):
            decoder.start()
        return Pipeline(
            self.database(),
            make_store(self._settings),
            decoder,
            client,
            self._settings,
            claimed_by=self._child_name(os.getpid()),
            wake=self._wake_another_child,
        )

    def _child_name(self, child: int) -> str:
        return f"{self._name}/{child}"

    def _wake_another_child(self, row_id: int) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self.wake(row_id)


def _idle_timer(settings: Settings, resources: ProcessResources, alarm: Alarm) -> IdleTimer | None:
    """None where the settings name no worker pool."""
    if not settings.pool.name:
        return None
    deactivator = once_per_process(lambda: make_deactivator(settings.pool, settings.broker, resources.due_in_s))
    timer = IdleTimer(
        deactivator,
        policy_from_settings(settings.pool),
        alarm.look,
        resources.seconds_since_caption,
    )

    @signals.task_received.connect(weak=False)
    def _not_idle(**_: object) -> None:
        timer.touch()

    @signals.worker_shutdown.connect(weak=False)
    def _stops(**_: object) -> None:
        timer.end()

    return timer


def _failed_starts(settings: Settings, due_in_s: Callable[[], float | None] = lambda: None) -> FailedStarts:
    return FailedStarts(
        settings.pool,
        lambda: _connect(settings),
        once_per_process(lambda: make_deactivator(settings.pool, settings.broker, due_in_s)),
        lambda: read_workers(settings.broker),
    )


def _connect_signals(engines: Engines, registration: Registration) -> None:
    # Celery holds receivers weakly by default, and the functions below have no other reference.
    @signals.setup_logging.connect(weak=False)
    def _keep_our_logging(**_: object) -> None:
        """With a receiver of `setup_logging`, Celery leaves the logging alone."""

    @signals.worker_ready.connect(weak=False)
    def _log_ready(**_: object) -> None:
        log.info("worker_ready", pid=os.getpid())

    @signals.worker_shutdown.connect(weak=False)
    def _end(**_: object) -> None:
        # The consumer has closed the row, unless Postgres was away or the consumer was not started. First: the
        # engine may take the rest of the time that a container has to stop.
        registration.close()
        engines.stop()


def _open_health_port(settings: Settings, engines: Engines) -> None:
    """Before the engines start, so that a probe of the start finds the port at once."""
    number = settings.worker.health_port
    if number == 0:
        return
    port = HealthPort(number, EngineHealth(lambda: engines.ready_addresses, settings.engine.start_timeout_s))

    @signals.worker_init.connect(weak=False)
    def _listen(**_: object) -> None:
        try:
            port.start()
        except DroplineError as error:
            # Celery logs other exceptions of receivers, and goes on.
            log.critical("worker_not_started", code=error.code, error=str(error))
            raise SystemExit(1) from error

    @signals.worker_process_init.connect(weak=False)
    def _close(**_: object) -> None:
        # A child that outlives a killed parent would hold the port.
        port.close()


def _report_memory(children: Children | None, plan: MemoryPlan | None) -> None:
    """Log both when the worker starts: the one line of a worker that does not start is its error."""

    @signals.worker_init.connect(weak=False)
    def _log(**_: object) -> None:
        log_children(children)
        log_plan(plan)


def _report_sandbox(decoder: DecoderProcess) -> None:
    """Log once which measures of the sandbox are active. The decoder process starts while the engine loads."""

    @signals.worker_init.connect(weak=False)
    def _start(**_: object) -> None:
        with contextlib.suppress(DecoderUnavailable):
            decoder.start()

    @signals.worker_ready.connect(weak=False)
    def _report(**_: object) -> None:
        try:
            active = decoder.measures()
        except DecoderUnavailable as error:
            log.error("decoder_not_started", error=str(error))
            return
        finally:
            decoder.close()
        log_sandbox(active)


def log_sandbox(active: Set[Measure]) -> None:
    """Log the measures of the sandbox; a warning without `seccomp`, which alone shuts every door."""
    report = log.info if Measure.SECCOMP in active else log.warning
    report("decoder_sandbox", active=sorted(active), missing=sorted(set(Measure) - active))
