"""Whether a worker can caption an image now: alive workers, a waking worker pool, none, or not known."""

from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum

from dropline.broker.workers import AliveWorkers, NotListed, read_workers
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import held_fingerprint, is_waking
from dropline.settings import BrokerSettings, Settings


class WorkerState(StrEnum):
    """The cases of `Availability`."""

    #: At least one worker has its connection to Redis.
    ALIVE = "alive"
    #: No worker is alive yet, and Cloud Run was called to start the worker pool.
    WAKING = "waking"
    #: No worker is alive.
    NONE = "none"
    #: Redis does not list its connections, or the settings name no Redis.
    NOT_KNOWN = "not_known"


class PoolState(StrEnum):
    """The worker pool of the settings."""

    #: The settings name no worker pool.
    NO_POOL = "no_pool"
    #: At zero instances, or being scaled to zero.
    ASLEEP = "asleep"
    #: Scaled up, or being scaled up.
    WAKING = "waking"
    #: At zero instances until something changes: its workers could not start.
    HELD = "held"


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a worker can caption an image now."""

    state: WorkerState
    #: Names of the alive workers, as in the table `workers`.
    names: frozenset[str] = frozenset()
    #: For `NONE` and `NOT_KNOWN`: the reason, or the remedy.
    reason: str = ""

    @property
    def alive(self) -> int | None:
        """The number of alive workers; None if not known."""
        return None if self.state is WorkerState.NOT_KNOWN else len(self.names)

    @property
    def may_answer(self) -> bool:
        """False if no worker will answer before a person starts a worker, or an event wakes the worker pool."""
        return self.state is not WorkerState.NONE

    def is_alive(self, name: str) -> bool | None:
        """Whether the worker with the name is alive; None if not known."""
        return None if self.state is WorkerState.NOT_KNOWN else name in self.names

    def words(self) -> str:
        """One line for people."""
        match self.state:
            case WorkerState.ALIVE:
                return "1 worker is alive" if self.alive == 1 else f"{self.alive} workers are alive"
            case WorkerState.WAKING:
                return "no worker is alive yet: the worker pool is waking"
            case WorkerState.NONE:
                return f"no worker is alive: {self.reason}"
            case WorkerState.NOT_KNOWN:
                return f"not known whether a worker is alive: {self.reason}"

    def document(self) -> dict[str, str | int | None]:
        """The state, the number of alive workers, and the words, for JSON."""
        return {"state": self.state.value, "alive": self.alive, "words": self.words()}


def availability(settings: Settings) -> Availability:
    """Read the state of the workers from Redis: CLIENT LIST, then CLIENT SETNAME and GET where no worker is alive.

    Call after waking the worker pool: a sleeping worker pool counts as none.

    Raises:
        SettingsError: the URL is of no Redis.
        BrokerUnavailable: Redis is unreachable, or its client library is not installed.
    """
    if not settings.broker.url:
        return judge(NotListed("DROPLINE_BROKER__URL is not set"), PoolState.NO_POOL)
    workers = read_workers(settings.broker)
    if workers == AliveWorkers(frozenset()) and settings.pool.name:
        return judge(workers, _read_pool_state(settings.broker))
    return judge(workers, PoolState.NO_POOL)


def judge(workers: AliveWorkers | NotListed, pool: PoolState) -> Availability:
    """The availability; the state of the worker pool counts only where no worker is alive."""
    if isinstance(workers, NotListed):
        return Availability(WorkerState.NOT_KNOWN, reason=workers.reason)
    if workers.names:
        return Availability(WorkerState.ALIVE, workers.names)
    match pool:
        case PoolState.WAKING:
            return Availability(WorkerState.WAKING)
        case PoolState.ASLEEP:
            return Availability(WorkerState.NONE, reason="the worker pool sleeps until the next image")
        case PoolState.HELD:
            return Availability(
                WorkerState.NONE,
                reason="the worker pool is held at 0 instances, since its workers could not start "
                "(`dropline status` has the reason)",
            )
        case PoolState.NO_POOL:
            return Availability(WorkerState.NONE, reason="start one with `dropline up` or `python -m worker`")


def _read_pool_state(broker: BrokerSettings) -> PoolState:
    with closing(PoolMark.connect(broker.url.get_secret_value(), broker.publish_timeout_s)) as mark:
        found = mark.read()
    if held_fingerprint(found) is not None:
        return PoolState.HELD
    return PoolState.WAKING if is_waking(found) else PoolState.ASLEEP
