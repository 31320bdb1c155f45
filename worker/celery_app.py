"""How Celery is set up: late acknowledgement, nothing but JSON, and silence while there is nothing to do."""

import os
import socket
import uuid
from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from dropline.contract import CAPTION_QUEUE, RECOVERY_QUEUE
from dropline.log import get_logger
from dropline.settings import Settings, require

log = get_logger(__name__)

#: Kombu sweeps for messages past their visibility timeout on a timer; recovery does that here, when a worker
#: becomes ready or reconnects (`docs/how-it-works.md`, "Nothing polls").
_NEVER_S = 10 * 365 * 24 * 3600

#: A silent BRPOP is given up after the polling interval and up to twice this.
_HEALTH_CHECK_S = 10


def make_celery(settings: Settings) -> Celery:
    """The Celery app of a worker; opens no connection.

    Raises:
        SettingsError: the broker's URL is missing.
    """
    app = Celery("dropline", broker=require(settings.broker.url, "DROPLINE_BROKER__URL"), set_as_current=True)
    app.conf.update(
        broker_transport_options=transport_options(settings),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A Redis that refuses a write (out of memory) costs the connection, and not the worker.
        broker_channel_error_retry=True,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        # Served in this order: see `queue_order_strategy`.
        task_queues=[_queue(RECOVERY_QUEUE), _queue(CAPTION_QUEUE)],
        task_default_queue=CAPTION_QUEUE,
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_timeout=False,
        task_soft_time_limit=settings.worker.soft_time_limit_s,
        task_time_limit=settings.worker.time_limit_s,
        worker_pool="worker.child_pool:ChildPool",
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


def transport_options(settings: Settings) -> dict[str, Any]:
    """Options of kombu's Redis transport."""
    polling = settings.broker.polling_interval_s
    return {
        "visibility_timeout": settings.broker.visibility_timeout_s,
        "polling_interval": polling,
        "queue_order_strategy": "priority",
        "unacked_restore_interval": _NEVER_S,
        "unacked_restore_throttle": 1,
        "socket_connect_timeout": 5,
        "socket_timeout": polling + 2 * _HEALTH_CHECK_S,
        "socket_keepalive": True,
        "health_check_interval": _HEALTH_CHECK_S,
        # `end_blocking_pop` finds the connection by it.
        "client_name": f"dropline-worker-{uuid.uuid4().hex}",
    }


def run_worker(app: Celery, settings: Settings) -> int:
    """Work until told to stop: the process's exit code. Without events nobody gossips, mingles or beats."""
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


def end_blocking_pop(app: Celery) -> None:
    """Make Redis answer the armed BRPOP now: a stopping worker waits for that answer, up to `polling_interval_s`.

    Hanging up instead could lose a message that Redis has just handed out.
    """
    name = app.conf.broker_transport_options["client_name"]
    try:
        with app.connection_for_write() as connection:
            client = connection.default_channel.client
            for other in client.client_list():
                if other["name"] == name and "b" in other["flags"]:
                    client.client_unblock(int(other["id"]))
    except (OperationalError, RedisError) as error:
        log.info("blocking_pop_not_ended", error=str(error))


def _queue(name: str) -> Queue:
    return Queue(name, Exchange(name), routing_key=name)
