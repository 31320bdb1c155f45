"""Celery bootsteps: the engine starts before the first task, and every (re)connection looks at the queue."""

from collections.abc import Callable
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

from dropline.broker.queue import CaptionQueue
from dropline.errors import BrokerUnavailable, DroplineError
from dropline.log import get_logger
from worker.alarm import Alarm
from worker.edit_signals import EditSignals
from worker.engines import Engines
from worker.gate import Gate
from worker.idle_timer import IdleTimer
from worker.registration import Registration

log = get_logger(__name__)


def install_steps(
    app: Celery,
    engines: Engines,
    queue: CaptionQueue,
    alarm: Alarm,
    gate: Gate,
    idle_timer: IdleTimer | None,
    registration: Registration,
    edit_signals: EditSignals,
    note_failed_start: Callable[[DroplineError], None],
) -> None:
    """Add the steps to the app's worker and consumer blueprints."""
    app.steps["worker"].add(_engine_step(engines, note_failed_start))
    alarm_step = _alarm_step(engines, queue, alarm)
    app.steps["consumer"].add(alarm_step)
    app.steps["consumer"].add(_gate_step(gate))
    app.steps["consumer"].add(_registration_step(registration, alarm_step))
    app.steps["consumer"].add(_edit_signals_step(edit_signals))
    if idle_timer is not None:
        app.steps["consumer"].add(_idle_step(idle_timer))


def _engine_step(
    engines: Engines, note_failed_start: Callable[[DroplineError], None]
) -> type[bootsteps.StartStopStep]:
    class EngineStep(bootsteps.StartStopStep):
        """Starts the engines before the consumer; the signal `worker_shutdown` stops them last."""

        requires = ("celery.worker.components:Hub",)

        def start(self, parent: Any) -> None:
            try:
                engines.start(parent.hub, parent, state.maybe_shutdown)
            except DroplineError as error:
                log.error("engine_not_started", error=str(error))
                note_failed_start(error)
                raise SystemExit(1) from error

    return EngineStep


def _alarm_step(engines: Engines, queue: CaptionQueue, alarm: Alarm) -> type[bootsteps.StartStopStep]:
    class AlarmStep(bootsteps.StartStopStep):
        """Runs at every start of the consumer: when the worker is ready and when it has reconnected."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            engines.resume()
            # In the event loop's second round, after the BRPOP is armed: a later loss of a message on Redis also
            # breaks the connection of the BRPOP, and the reconnection looks again.
            soon = parent.hub.call_soon
            soon(lambda: soon(lambda: alarm.start(parent.hub)))
            call_after_disconnect(parent.task_consumer.channel, lambda: soon(alarm.look))

        def stop(self, parent: Any) -> None:
            alarm.stop()
            try:
                queue.end_blocking_pop()
            except BrokerUnavailable as error:
                log.info("blocking_pop_not_ended", error=str(error))
            if _is_stopping(parent):
                alarm.hand_over()

    return AlarmStep


def _is_stopping(consumer: Any) -> bool:
    """True if the worker stops; false if its consumer starts again."""
    return consumer.controller.blueprint.state in (bootsteps.CLOSE, bootsteps.TERMINATE)


def _gate_step(gate: Gate) -> type[bootsteps.StartStopStep]:
    class GateStep(bootsteps.StartStopStep):
        """Guards each new channel of the consumer before its first BRPOP."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            gate.start(parent.hub, parent.task_consumer.channel)

        def stop(self, parent: Any) -> None:  # noqa: ARG002 - the signature is Celery's
            gate.stop()

    return GateStep


def _registration_step(
    registration: Registration, alarm_step: type[bootsteps.StartStopStep]
) -> type[bootsteps.StartStopStep]:
    class RegistrationStep(bootsteps.StartStopStep):
        """Writes the worker's row, and closes the row first when the worker stops.

        What follows may take longer than a container has to stop (10 seconds on Cloud Run): the end of the BRPOP,
        the last images, the end of the engine. The signal `worker_shutdown` closes a row that is still open.
        """

        # Celery stops the steps in reverse order: this step before the alarm's, which waits for Redis.
        requires = (alarm_step,)

        def start(self, parent: Any) -> None:
            # In the event loop, so that an unreachable Postgres does not delay the first message.
            parent.hub.call_soon(registration.start, parent.hub)

        def stop(self, parent: Any) -> None:
            if _is_stopping(parent):
                registration.close()
            else:
                registration.pause()

    return RegistrationStep


def _edit_signals_step(edit_signals: EditSignals) -> type[bootsteps.StartStopStep]:
    class EditSignalsStep(bootsteps.StartStopStep):
        """Listens before the look of the alarm, which is in the event loop's second round."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            parent.hub.call_soon(edit_signals.start, parent.hub)

        def stop(self, parent: Any) -> None:  # noqa: ARG002 - the signature is Celery's
            edit_signals.stop()

    return EditSignalsStep


def call_after_disconnect(channel: Any, callback: Callable[[], None]) -> None:
    """Call back after each loss of a connection of the consumer's channel.

    The Redis client reconnects silently where a connection breaks between two commands, and Celery does not
    restart the consumer. Redis may have restarted without its data: while all children are busy, no BRPOP waits.
    """
    disconnected = channel._on_connection_disconnect  # noqa: SLF001 - kombu has no public hook

    def disconnected_and_called(connection: Any) -> None:
        disconnected(connection)
        callback()

    channel._on_connection_disconnect = disconnected_and_called  # noqa: SLF001 - as above


def _idle_step(timer: IdleTimer) -> type[bootsteps.StartStopStep]:
    class IdleStep(bootsteps.StartStopStep):
        """Counts the idle time from each start of the consumer."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, parent: Any) -> None:
            timer.start(parent.hub)

        def stop(self, parent: Any) -> None:  # noqa: ARG002 - the signature is Celery's
            timer.stop()

    return IdleStep
