"""The alarm of a worker: a look at the queue in Postgres when the next row is due.

A row in a back-off has no message on Redis, and neither has the row of a dead worker. The parent of each
worker has one alarm, for the earliest time at which a row is due: the results of the children carry this time. The
alarm is published, and sounds in the other workers a moment later, in case this worker dies before.
"""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

from kombu.asynchronous import Hub
from kombu.asynchronous.timer import Entry

from dropline.broker.alarms import AlarmNotice
from dropline.errors import BrokerUnavailable, DroplineError
from dropline.log import get_logger

log = get_logger(__name__)

#: Seconds after the alarm of another worker, which has the first turn.
GRACE_S = 5.0
#: Between two looks, in seconds.
_SHORTEST_S = 0.25
#: Longest pause after a failed look, in seconds. The pauses are 1, 2, 4 … seconds.
_LONGEST_PAUSE_S = 64.0
#: A change of the alarm by less is not published.
_PUBLISHED_S = 1.0


class AlarmTimes:
    """The times of the alarms that concern a worker, in seconds of any clock. Pure."""

    def __init__(self) -> None:
        #: Of the next row known to the worker; None: no row has to be awaited.
        self.row_at: float | None = None
        #: End of a lease which a child of the worker may hold; None: no child has a message.
        self.lease_at: float | None = None
        self._peers_at: dict[str, float] = {}

    @property
    def own_at(self) -> float | None:
        """The alarm of this worker."""
        return _earliest(self.row_at, self.lease_at)

    def bring_forward(self, at: float) -> None:
        """A row is due at `at`, or another row earlier."""
        self.row_at = _earliest(self.row_at, at)

    def hear(self, now: float, notice: AlarmNotice) -> None:
        """Another worker has published its alarm."""
        if notice.in_s is None:
            self._peers_at.pop(notice.worker, None)
        else:
            self._peers_at[notice.worker] = now + notice.in_s + GRACE_S

    def next_at(self) -> float | None:
        """The earliest time; None without an alarm."""
        return _earliest(self.own_at, *self._peers_at.values())

    def sound(self, now: float) -> None:
        """Remove the due alarms: the following look sets the next alarm."""
        self._peers_at = {worker: at for worker, at in self._peers_at.items() if at > now}
        self.row_at = _if_later(self.row_at, now)
        self.lease_at = _if_later(self.lease_at, now)


def _jitter() -> float:
    return random.uniform(0.5, 1.0)  # noqa: S311 - not secret


def _earliest(*times: float | None) -> float | None:
    return min((at for at in times if at is not None), default=None)


def _if_later(at: float | None, now: float) -> float | None:
    return at if at is not None and at > now else None


class Channel(Protocol):
    """See `dropline.broker.alarms.AlarmChannel`."""

    def publish(self, notice: AlarmNotice) -> None: ...

    def subscribe(self) -> int: ...

    def received(self) -> list[AlarmNotice]: ...

    def close(self) -> None: ...


class Alarm:
    """The alarm in the event loop of the worker's parent."""

    def __init__(
        self,
        name: str,
        lease_s: float,
        look: Callable[[], float | None],
        channel: Channel,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create an alarm, not armed yet.

        Args:
            name: of this worker.
            lease_s: seconds of a claim.
            look: sends a message for due rows, and returns the seconds until the next row is due, or None; may
                raise a DroplineError.
            channel: to the other workers.
            clock: for tests.
        """
        self._name = name
        self._lease_s = lease_s
        self._look = look
        self._channel = channel
        self._clock = clock
        self._times = AlarmTimes()
        self._published_at: float | None = None
        self._held: set[str] = set()
        self._failures = 0
        #: Since when children fail at claims, without a success in between.
        self._failing_since: float | None = None
        self._hub: Hub | None = None
        self._entry: Entry | None = None

    def start(self, hub: Hub) -> None:
        """Look now; call at each start of the consumer: Celery drops timers and readers with the connection."""
        self._hub = hub
        self._held.clear()
        self._subscribe(hub)
        self.look()

    def stop(self) -> None:
        """Disarm the alarm."""
        self._disarm()
        self._channel.close()
        self._hub = None

    def taken(self, message_id: str) -> None:
        """A child has taken a message, and may lease a row: the row is due again at the end of the lease."""
        self._held.add(message_id)
        if self._times.lease_at is None:
            # Published also if the alarm for a row is earlier: a worker started since has not heard that alarm.
            self._published_at = None
            self._await_leases()
            self._set()

    def ended(self, message_id: str, next_in_s: float | None) -> None:
        """A child has ended; `next_in_s` are the seconds until the next row is due, or None.

        The alarm is brought forward, and never put off: the child may have read the table before another child,
        whose result came first. A look puts the alarm off.
        """
        self._failing_since = None
        self._leave(message_id, next_in_s)

    def failed(self, message_id: str) -> None:
        """A child has failed: a look is needed, after a pause that grows with the time since the last success.

        A Postgres that refuses writes may serve the reads of the looks.
        """
        if self._failing_since is None:
            self._failing_since = self._clock()
        failing_s = self._clock() - self._failing_since
        self._leave(message_id, min(_LONGEST_PAUSE_S, max(1.0, failing_s)) * _jitter())

    def _leave(self, message_id: str, next_in_s: float | None) -> None:
        self._held.discard(message_id)
        self._await_leases()
        if next_in_s is not None:
            self._times.bring_forward(self._clock() + next_in_s)
        self._set()

    def look(self) -> None:
        """Look at the queue, and set the alarm for the next row."""
        self._times.sound(self._clock())
        try:
            next_in_s = self._look()
            self._failures = 0
        except DroplineError as error:
            next_in_s = min(_LONGEST_PAUSE_S, 2.0**self._failures) * _jitter()
            self._failures += 1
            log.warning("look_failed", code=error.code, error=str(error), again_in_s=round(next_in_s, 1))
        self._times.row_at = None if next_in_s is None else self._clock() + next_in_s
        self._await_leases()
        self._set()

    def hand_over(self) -> None:
        """Have the other workers look, as the worker stops: Redis may have sent a message which was never read.

        Under a separate name: a child that ends later may take back the alarm of the worker.
        """
        # Without Redis, every worker reconnects and looks.
        with suppress(BrokerUnavailable):
            self._channel.publish(AlarmNotice(f"{self._name} stopped", 0.0))

    def _await_leases(self) -> None:
        self._times.lease_at = self._clock() + self._lease_s if self._held else None

    def _set(self) -> None:
        self._publish()
        self._arm()

    def _publish(self) -> None:
        own_at, published_at = self._times.own_at, self._published_at
        if own_at == published_at or (
            own_at is not None and published_at is not None and abs(own_at - published_at) < _PUBLISHED_S
        ):
            return
        in_s = None if own_at is None else max(0.0, own_at - self._clock())
        # Without Redis, every worker reconnects and looks.
        with suppress(BrokerUnavailable):
            self._channel.publish(AlarmNotice(self._name, in_s))
            self._published_at = own_at

    def _arm(self) -> None:
        self._disarm()
        next_at = self._times.next_at()
        if self._hub is not None and next_at is not None:
            self._entry = self._hub.call_later(max(_SHORTEST_S, next_at - self._clock()), self.look)

    def _disarm(self) -> None:
        if self._entry is not None:
            self._entry.cancel()
            self._entry = None

    def _subscribe(self, hub: Hub) -> None:
        try:
            hub.add_reader(self._channel.subscribe(), self._on_readable, hub)
        except BrokerUnavailable as error:
            log.warning("alarms_not_heard", error=str(error))

    def _on_readable(self, hub: Hub) -> None:
        try:
            for notice in self._channel.received():
                if notice.worker != self._name:
                    self._times.hear(self._clock(), notice)
        except BrokerUnavailable:
            # Notices may be lost.
            self._subscribe(hub)
            self.look()
        self._arm()
