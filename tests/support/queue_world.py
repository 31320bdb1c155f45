"""Simulation of the queue in virtual time: rows in Postgres, messages on Redis, workers with the real alarm.

Claims and ends of rows follow `db.claims` and `db.attempts`; the alarm is `worker.alarm.Alarm`, over a hub and a
channel of the world. Time passes only in `advance`.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from kombu.asynchronous import Hub

from dropline.broker.alarms import AlarmNotice
from dropline.errors import BrokerUnavailable, DatabaseUnavailable
from tests.support.clock import ManualClock
from worker.alarm import Alarm

LEASE_S = 180.0
MOST_MESSAGES = 12
#: Seconds of an attempt.
WORK_S = 2.0


@dataclass
class SimRow:
    """A row, unfinished until `done`."""

    due_at: float
    priority: int = 0
    #: Worker and slot that hold the lease.
    owner: tuple[str, int] | None = None
    attempts: int = 0
    done: bool = False
    #: Seconds of back-off for the next attempts; each attempt takes one.
    backoffs: list[float] = field(default_factory=list)
    captions: int = 0


class World:
    """Postgres, Redis and the workers."""

    def __init__(self, *, publishes: bool = True, hands_over: bool = True) -> None:
        """The queue without rows and workers.

        Args:
            publishes: False for the control, in which no worker hears of another worker's alarm.
            hands_over: False for the control, in which no worker hears that another one stops.
        """
        self.hands_over = hands_over
        self.clock = ManualClock()
        self.rows: list[SimRow] = []
        self.messages: deque[int] = deque()
        self.workers: dict[str, SimWorker] = {}
        self.redis_up = self.takes_writes = self.postgres_up = True
        self.publishes = publishes
        #: A worker was killed with a message that it had not read: the row is found at its next start.
        self.must_restart = False
        #: Looks at Postgres, and messages sent.
        self.looks = self.sent = 0
        self._count = 0

    @property
    def now(self) -> float:
        """Virtual time, in seconds."""
        return self.clock.now

    # The function, and people.

    def drop(self, *, priority: int = 0, message: bool = True, backoffs: tuple[float, ...] = ()) -> int:
        """A row, and its message unless the row is inserted by plain SQL."""
        self.rows.append(SimRow(self.now, priority, backoffs=list(backoffs)))
        row_id = len(self.rows) - 1
        if message:
            self._deliver(row_id)
        return row_id

    def _deliver(self, row_id: int) -> None:
        """The function: an event whose message Redis refuses is delivered again."""
        if not self.try_send(row_id):
            self.clock.call_at(self.now + 10.0, lambda: self._deliver(row_id))

    def try_send(self, row_id: int, most: int = MOST_MESSAGES) -> bool:
        """Send a message; False if Redis refuses."""
        if not (self.redis_up and self.takes_writes):
            return False
        if len(self.messages) < most:
            self.messages.append(row_id)
            self.sent += 1
            self.feed()
        return True

    # Postgres.

    def due(self) -> list[int]:
        """The due rows, the most urgent first."""
        found = [number for number, row in enumerate(self.rows) if not row.done and row.due_at <= self.now]
        return sorted(found, key=lambda number: (self.rows[number].priority, self.rows[number].due_at, number))

    def next_in_s(self, but: int | None = None) -> float | None:
        """Seconds until the next row is due."""
        times = [r.due_at for n, r in enumerate(self.rows) if n != but and not r.done and r.due_at > self.now]
        return min(times) - self.now if times else None

    def claim(self, hint: int, owner: tuple[str, int]) -> int | None:
        """Lease the most urgent row."""
        due = self.due()
        if not due:
            return None
        best = self.rows[due[0]].priority
        picked = hint if hint in due and self.rows[hint].priority == best else due[0]
        row = self.rows[picked]
        row.owner, row.due_at, row.attempts = owner, self.now + LEASE_S, row.attempts + 1
        return picked

    # Faults.

    def start(self, slots: int = 2) -> "SimWorker":
        """A further worker."""
        self._count += 1
        worker = SimWorker(self, f"w{self._count}", slots)
        self.workers[worker.name] = worker
        worker.connect()
        return worker

    def lose_messages(self, keep: int = 0) -> None:
        """Redis loses all messages but the newest `keep`, and no connection."""
        kept = list(self.messages)[len(self.messages) - keep :] if keep else []
        self.messages = deque(kept)

    def restart_redis(self, keep: int = 0) -> None:
        """Redis loses messages and all connections."""
        self.lose_messages(keep)
        for worker in list(self.workers.values()):
            worker.disconnect()
        for worker in list(self.workers.values()):
            worker.connect()

    def feed(self) -> None:
        """Give the messages to idle children, as the armed BRPOPs of the workers do."""
        while self.messages:
            idle = next((each for each in self.workers.values() if each.takes_messages()), None)
            if idle is None:
                return
            idle.take(self.messages.popleft())

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)


class SimWorker:
    """A worker: the real alarm in its parent, and simulated children."""

    def __init__(self, world: World, name: str, slots: int) -> None:
        self.world, self.name, self.slots = world, name, slots
        self.connected = self.frozen = self.stopping = self._holds = False
        self.jobs: dict[int, tuple[int, Any]] = {}
        self._late: list[Callable[[], None]] = []
        self._inbox: list[AlarmNotice] = []
        self._messages = 0
        self.alarm = Alarm(name, LEASE_S + 1, self._look, _Channel(self), clock=lambda: world.now)

    def takes_messages(self) -> bool:
        """True while the BRPOP is armed; that of a frozen parent gets one more message."""
        is_armed = not self.frozen or not self._holds
        return self.connected and is_armed and self.world.redis_up and len(self.jobs) < self.slots

    def connect(self) -> None:
        """The consumer starts."""
        if not self.world.redis_up:
            self.world.clock.call_at(self.world.now + 1.0, self.connect)
        elif not self.connected and not self.stopping and self.name in self.world.workers:
            self.connected = True
            self.alarm.start(cast("Hub", _Hub(self)))
            self.world.feed()

    def disconnect(self) -> None:
        """The consumer stops; children go on."""
        if self.connected:
            self.connected = False
            self.alarm.stop()

    def kill(self) -> None:
        """The parent and all children die: their rows keep their leases."""
        self.world.must_restart |= self._holds
        self.disconnect()
        for _, entry in self.jobs.values():
            entry.cancel()
        self.jobs.clear()
        del self.world.workers[self.name]

    def stop(self) -> None:
        """SIGTERM: no further message is taken, the others are told, and the process ends with its last row."""
        self.in_parent(self._stop)

    def _stop(self) -> None:
        self.stopping = True
        self.disconnect()
        if self.world.hands_over:
            self.alarm.hand_over()
        self._end_if_done()

    def _end_if_done(self) -> None:
        if self.stopping and not self.jobs:
            self.world.workers.pop(self.name, None)

    def freeze(self) -> None:
        """SIGSTOP of the parent."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT of the parent."""
        self.frozen = self._holds = False
        late, self._late = self._late, []
        for callback in late:
            callback()
        self.world.feed()

    def kill_child(self) -> None:
        """A child dies: the parent ends its lease, and the message returns to the queue."""
        if not self.jobs:
            return
        message, (hint, entry) = next(iter(self.jobs.items()))
        entry.cancel()
        del self.jobs[message]

        def noticed() -> None:
            for row in self.world.rows:
                if row.owner == (self.name, message) and not row.done and self.world.postgres_up:
                    row.owner, row.due_at = None, self.world.now
            if self.world.redis_up:
                self.world.messages.append(hint)
            self.alarm.failed(str(message))
            self.world.feed()

        self.in_parent(noticed)

    def take(self, hint: int) -> None:
        """A child takes a message, and claims a row."""
        if self.name not in self.world.workers:
            return
        if self.frozen:
            self._holds = True
            self._late.append(lambda: self.take(hint))
            return
        world = self.world
        self._messages += 1
        message = self._messages
        entry = world.clock.call_at(world.now + 0.01, lambda: None)
        self.jobs[message] = (hint, entry)
        self.in_parent(lambda: self.alarm.taken(str(message)))
        if not world.postgres_up:
            self._finish(message, None, failed=True)
            return
        row_id = world.claim(hint, (self.name, message))
        if (due := world.due()) and row_id is not None:
            world.try_send(due[0], self.slots)
        if row_id is None:
            self._finish(message, world.next_in_s())
            return
        entry = world.clock.call_at(world.now + WORK_S, lambda: self._end_row(message, row_id))
        self.jobs[message] = (hint, entry)

    def in_parent(self, callback: Callable[[], None]) -> None:
        """Run in the event loop of the parent, once the parent runs."""
        if self.name not in self.world.workers:
            return
        if self.frozen:
            self._late.append(callback)
        else:
            callback()

    def hear(self, notice: AlarmNotice) -> None:
        """A notice arrives on the subscription."""
        if self.connected:
            self._inbox.append(notice)
            hub = self.alarm._hub
            if hub is not None:
                self.in_parent(lambda: self.alarm._on_readable(hub))

    def received(self) -> list[AlarmNotice]:
        """The notices that have arrived."""
        found, self._inbox = self._inbox, []
        return found

    def _end_row(self, message: int, row_id: int) -> None:
        world = self.world
        row = world.rows[row_id]
        if not world.postgres_up:
            self._finish(message, None, failed=True)
            return
        own_delay: float | None = None
        if row.owner == (self.name, message) and not row.done:
            row.owner = None
            if row.backoffs:
                own_delay = row.backoffs.pop(0)
                row.due_at = world.now + own_delay
            else:
                row.done, row.captions = True, row.captions + 1
        due = [number for number in world.due() if number != row_id]
        if due and not world.try_send(due[0], self.slots):
            self._finish(message, None, failed=True)
            return
        delays = [each for each in (world.next_in_s(but=row_id), own_delay) if each is not None]
        self._finish(message, min(delays, default=None))

    def _finish(self, message: int, next_in_s: float | None, *, failed: bool = False) -> None:
        # The parent may read the results of two children in another order than that of their statements.
        after_s = 0.5 * (message % 2)

        def ended() -> None:
            self.jobs.pop(message, None)
            if failed:
                self.in_parent(lambda: self.alarm.failed(str(message)))
            else:
                self.in_parent(lambda: self.alarm.ended(str(message), next_in_s))
            self.in_parent(self._end_if_done)
            self.world.feed()

        _, entry = self.jobs[message]
        entry.cancel()
        self.jobs[message] = (self.jobs[message][0], self.world.clock.call_at(self.world.now + after_s, ended))

    def _look(self) -> float | None:
        world = self.world
        world.looks += 1
        if not world.postgres_up:
            raise DatabaseUnavailable("away")
        for row_id in world.due()[: self.slots]:
            if not world.try_send(row_id, self.slots):
                raise BrokerUnavailable("away")
        return world.next_in_s()


class _Channel:
    """The alarms of a world."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    def publish(self, notice: AlarmNotice) -> None:
        """Reach every connected worker."""
        world = self._worker.world
        if not world.redis_up:
            raise BrokerUnavailable("away")
        if world.publishes:
            for each in list(world.workers.values()):
                each.hear(notice)

    def subscribe(self) -> int:
        """No file descriptor is needed."""
        return -1

    def received(self) -> list[AlarmNotice]:
        """See `SimWorker.received`."""
        return self._worker.received()

    def close(self) -> None:
        """Nothing is open."""


class _Hub:
    """The timers of a parent."""

    def __init__(self, worker: SimWorker) -> None:
        self._worker = worker

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        clock = self._worker.world.clock
        return clock.call_at(clock.now + delay, lambda: self._worker.in_parent(callback))

    def add_reader(self, fd: int, callback: Callable[..., None], *arguments: Any) -> None:
        """Notices are delivered by `SimWorker.hear`."""
