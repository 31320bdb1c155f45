"""Events per second through the function: from a push request to a row and a message."""

from dataclasses import dataclass

from benchmarks.checks import require_enqueued, require_statuses
from benchmarks.cpu import cpu_ms_each
from benchmarks.drops import row_times
from benchmarks.envelopes import finalize_envelope
from benchmarks.figures import Figure, Spread, cpu_figures, shown, shown_spread
from benchmarks.push_client import Posted, post_all_elsewhere
from benchmarks.stage import Stage, open_stage

_CONNECTIONS = 16
#: Enough for every thread and every pooled connection to have been used.
_WARM_UP = 20 * _CONNECTIONS
_SERVICES = ("function", "postgres", "redis")


@dataclass(frozen=True)
class FunctionResult:
    """What the function did with pushes that came as fast as it answered."""

    title = "The function: from a push request to a row and a message"
    events: int
    #: Events before those that count.
    warm_up: int
    connections: int
    seconds: float
    events_per_s: float
    answer_ms: Spread
    #: Per event: the function's one process and its parent, both servers, and the client that posted.
    cpu_ms: dict[str, float]

    def figures(self) -> list[Figure]:
        """For people."""
        return [
            Figure(
                "events", f"{self.events:,}, after {self.warm_up} to warm up; every one has its row and message"
            ),
            Figure("load", f"{self.connections} kept-alive connections, each posting again once it is answered"),
            Figure("**events per second**, one process", f"**{shown(self.events_per_s)}**"),
            Figure("time to an answer, under this load", shown_spread(self.answer_ms, "ms")),
            *cpu_figures(self.cpu_ms, "event"),
        ]


def measure_function(events: int) -> FunctionResult:
    """Post `events` distinct events while no worker runs.

    Raises:
        RunInvalidError: an event was not taken, or its row or message is not there.
        LocalStackError: the stack does not start.
    """
    with open_stage() as stage:
        stage.worker.stop()
        bodies = [finalize_envelope(stage.bucket, number) for number in range(_WARM_UP + events)]
        _post(stage, bodies[:_WARM_UP])
        before = stage.cpu_seconds(*_SERVICES)
        posted = _post(stage, bodies[_WARM_UP:])
        after = stage.cpu_seconds(*_SERVICES)
        require_enqueued([row.id for row in row_times(stage)], stage.messages.rows(), len(bodies))
    return _result(posted, cpu_ms_each(before, after, events))


def _post(stage: Stage, bodies: list[bytes]) -> Posted:
    posted = post_all_elsewhere(stage.function_url, bodies, _CONNECTIONS)
    require_statuses([answer.status for answer in posted.answers])
    return posted


def _result(posted: Posted, cpu_ms: dict[str, float]) -> FunctionResult:
    events = len(posted.answers)
    return FunctionResult(
        events=events,
        warm_up=_WARM_UP,
        connections=_CONNECTIONS,
        seconds=posted.seconds,
        events_per_s=events / posted.seconds,
        answer_ms=Spread.of((answer.answered - answer.sent) * 1000 for answer in posted.answers),
        cpu_ms=cpu_ms | {"client": posted.cpu_s * 1000 / events},
    )
