"""Celery in the worker: late acknowledgement, no polling, and a process pool that reads a dead child's output."""

import os
import socket
from contextlib import suppress
from typing import Any

from billiard.connection import wait
from billiard.pool import TERMINATE, WorkersJoined
from celery.concurrency.asynpool import AsynPool, ResultHandler
from celery.concurrency.prefork import TaskPool
from kombu.entity import Exchange, Queue

from dropline.broker.configuration import WorkerCelery, make_worker_app
from dropline.contract import CAPTION_QUEUE
from dropline.settings import Settings


def make_celery(settings: Settings) -> WorkerCelery:
    """The Celery app of a worker; opens no connection.

    Raises:
        SettingsError: the broker's URL is missing.
    """
    app = make_worker_app(settings.broker)
    app.conf.update(
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # When Redis refuses a write (out of memory), the worker reconnects instead of ending.
        broker_channel_error_retry=True,
        task_store_errors_even_if_ignored=False,
        task_queues=[Queue(CAPTION_QUEUE, Exchange(CAPTION_QUEUE), routing_key=CAPTION_QUEUE)],
        task_default_queue=CAPTION_QUEUE,
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_timeout=False,
        task_soft_time_limit=settings.worker.soft_time_limit_s,
        task_time_limit=settings.worker.time_limit_s,
        worker_pool=f"{__name__}:ProcessPool",
        worker_concurrency=settings.worker.concurrency,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=settings.broker.send_events,
        worker_send_task_events=settings.broker.send_events,
        task_send_sent_event=settings.broker.send_events,
        worker_soft_shutdown_timeout=settings.worker.soft_time_limit_s,
        enable_utc=True,
    )
    return app


def run_worker(app: WorkerCelery, settings: Settings) -> int:
    """Run a worker until a signal stops the process; returns the exit code.

    Without task events the worker sends no gossip, mingle or heartbeat messages to other workers.
    """
    quiet = not settings.broker.send_events
    worker = app.Worker(
        hostname=f"dropline-{os.getpid()}@{socket.gethostname()}",
        loglevel=settings.log.level,
        without_gossip=quiet,
        without_mingle=quiet,
        without_heartbeat=quiet,
        quiet=True,
    )
    worker.start()
    return int(worker.exitcode or 0)


class _ResultsUntilExit(ResultHandler):
    """Reads the results of the children until the last child has exited.

    Before its exit a child waits up to 30 s until the parent has read its results. If a worker is told to stop
    while a child has not yet accepted its message, Celery 5.7 forgets the message and stops reading.
    """

    def on_stop_not_started(self) -> None:
        """Called by the pool after the children were told to exit."""
        super().on_stop_not_started()
        closed: set[int] = set()
        while self.fileno_to_outq and self._state != TERMINATE:
            results = set(self.fileno_to_outq) - closed
            ready = wait([*results, *(child.sentinel for child in self.fileno_to_outq.values())])
            for result in results.intersection(ready):
                self._flush_outqueue(result, closed.add, self.fileno_to_outq, self.on_state_change)
            with suppress(WorkersJoined):
                self.join_exited_workers(shutdown=True)


class _FlushingPool(AsynPool):
    """Reads the output of a dead child before closing the pipe, also if the parent is removing another dead child.

    In the second case Celery 5.7 calls `on_partial_read` first. If the child had accepted a message and Celery has
    not read the acceptance yet, Celery gives the message to another child as unstarted. The other child finds the
    row leased and drops the message as a duplicate; the lease of the dead child is never released.
    """

    ResultHandler = _ResultsUntilExit

    def on_partial_read(self, job: Any, proc: Any) -> None:
        """Handle a job written to a child that has died since."""
        if not proc.dead:
            self.process_flush_queues(proc)
        super().on_partial_read(job, proc)


class ProcessPool(TaskPool):
    """Celery's prefork process pool, over `_FlushingPool`."""

    Pool = _FlushingPool
