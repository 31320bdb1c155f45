"""Celery's prefork pool, except that a dead child's last words are heard before its pipe is thrown away."""

from typing import Any

from celery.concurrency.asynpool import AsynPool
from celery.concurrency.prefork import TaskPool


class _AttentivePool(AsynPool):
    """Reads what a child has written when it finds it dead by chance, and not only when it is told of its end.

    A child that dies while the pool clears away another one is met by `on_partial_read` first. Celery 5.7 then
    takes a message whose acceptance it has not read yet for one that was never begun, and hands it to another
    child: that one finds the row leased, takes the message for a duplicate, and nobody frees the lease.
    """

    def on_partial_read(self, job: Any, proc: Any) -> None:
        """Handle a job that was written to a child that has died since."""
        if not proc.dead:
            self.process_flush_queues(proc)
        super().on_partial_read(job, proc)


class ChildPool(TaskPool):
    """What `worker_pool` names."""

    Pool = _AttentivePool
