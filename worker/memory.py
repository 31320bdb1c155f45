"""The sum of a worker's memory: from settings and a limit to the share of each decoder, or a refusal.

    parent + engines + reserve
    + children · (child + download + decoder process + share)
    + (full - share)        one image at a time may have the full limit
    ≤ limit

The share is the result: the rest of the limit, in equal parts. `docs/operate.md` has the table;
`docs/decisions/0018-memory-is-summed-at-the-start.md` has the reasons.
"""

from dataclasses import dataclass

from dropline.demo_model import DEMO_MODEL
from dropline.errors import SettingsError
from dropline.images.turns import DecoderShare, Turns
from dropline.log import get_logger
from dropline.settings import EngineSettings, Settings
from worker.memory_limit import MemoryLimit, find_limit

log = get_logger(__name__)

_MB = 1_000_000
#: The parent: own pages and pages shared with the children. `python -m benchmarks.memory` measures.
PARENT_BYTES = 150 * _MB
#: A child's own pages, the slot, a part of the engine's page-locked memory, and the buffers of the sockets.
CHILD_BYTES = 80 * _MB
#: Of each child for each further engine: a slot and its part of that engine's page-locked memory.
CONNECTION_BYTES = 4 * _MB
#: A decoder process, and all memory of the process for images before the first image.
DECODER_BYTES = 100 * _MB
#: The engine with the stub.
STUB_ENGINE_BYTES = 80 * _MB
#: The engine with the demo model on a CPU, at work.
DEMO_ENGINE_BYTES = 600 * _MB
#: The engine with any other checkpoint. With random weights in the shape of Florence-2-base, the benchmark of the
#: model had at most 2,650 MB resident, with batches of 128 on an H100; the rest is room for a checkpoint's files.
ENGINE_BYTES = 4_000 * _MB
#: Copies of an object during its download: the stored bytes and, under a content encoding, the plain bytes.
DOWNLOAD_COPIES = 2
#: The least share: with less, ordinary photographs would take turns.
LEAST_SHARE_BYTES = 100 * _MB
#: Longest wait for the turn of a large image, in time limits of decoding: the task keeps time for the engine.
TURN_TIME_LIMITS = 2
#: Free part of the limit, for the kernel's tables and for ending processes.
RESERVE_PARTS = 20


@dataclass(frozen=True, slots=True)
class Part:
    """One line of the sum."""

    name: str
    total_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """A division of the worker's memory that fits the limit."""

    limit: MemoryLimit
    parts: tuple[Part, ...]
    #: Bytes that a decoder may allocate for an ordinary image; `child_memory_bytes` without turns.
    share_bytes: int
    #: True if images that need more than the share take turns.
    has_turns: bool

    @property
    def total_bytes(self) -> int:
        """The sum; at most the limit."""
        return sum(part.total_bytes for part in self.parts)

    def decoder_share(self, decode_timeout_s: float) -> DecoderShare | None:
        """The memory of each child's decoder; None: the full memory for each."""
        if not self.has_turns:
            return None
        return DecoderShare(self.share_bytes, Turns(TURN_TIME_LIMITS * decode_timeout_s))

    def report(self) -> dict[str, object]:
        """For the log; sizes in bytes."""
        return {
            "limit": self.limit.limit_bytes,
            "source": self.limit.source,
            "total": self.total_bytes,
            "share": self.share_bytes,
            "turns": self.has_turns,
            "parts": {part.name: part.total_bytes for part in self.parts},
        }


def find_plan(settings: Settings) -> MemoryPlan | None:
    """The plan by the limit of this process; None where decoders have no limit.

    Raises:
        SettingsError: the processes do not fit.
    """
    if not settings.images.child_memory_bytes:
        return None
    return plan_memory(settings, find_limit(settings.worker.memory_bytes))


def log_plan(plan: MemoryPlan | None) -> None:
    """Log the plan, or a warning that there is none."""
    if plan is None:
        log.warning("memory_not_limited", setting="DROPLINE_IMAGES__CHILD_MEMORY_BYTES")
    else:
        log.info("memory_planned", **plan.report())


def plan_memory(settings: Settings, limit: MemoryLimit) -> MemoryPlan:
    """Divide the limit among the processes of a worker.

    Raises:
        SettingsError: the parts do not fit; the text has each part and the settings to change.
    """
    children, full = settings.worker.concurrency, settings.images.child_memory_bytes
    fixed = _fixed_parts(settings, limit.limit_bytes)
    free = limit.limit_bytes - sum(part.total_bytes for part in fixed)
    if children * full <= free:
        return MemoryPlan(limit, (*fixed, Part(f"{children} × decoding", children * full)), full, has_turns=False)
    # During a large decode the share of the same child is not in use.
    share = (free - full) // (children - 1) if children > 1 else 0
    decoding = _decoding(children, max(share, LEAST_SHARE_BYTES), full)
    if share < LEAST_SHARE_BYTES:
        raise SettingsError(_refusal(settings, limit, (*fixed, *decoding)))
    return MemoryPlan(limit, (*fixed, *decoding), share, has_turns=True)


def _fixed_parts(settings: Settings, limit_bytes: int) -> tuple[Part, ...]:
    """All but the memory for decoding."""
    children = settings.worker.concurrency
    engines = len(settings.engine.devices)
    child = CHILD_BYTES + (engines - 1) * CONNECTION_BYTES
    download = DOWNLOAD_COPIES * settings.events.max_size_bytes
    return (
        Part("the worker's parent", PARENT_BYTES),
        Part(_engine_name(settings.engine), engines * _engine_bytes(settings.engine)),
        Part(f"1/{RESERVE_PARTS} in reserve", limit_bytes // RESERVE_PARTS),
        Part(f"{children} × a child, {_mb(child)}", children * child),
        Part(f"{children} × a download, {_mb(download)}", children * download),
        Part(f"{children} × a decoder process, {_mb(DECODER_BYTES)}", children * DECODER_BYTES),
    )


def _decoding(children: int, share: int, full: int) -> tuple[Part, ...]:
    return (
        Part("decoding one large image", full),
        Part(f"{children - 1} × decoding, {_mb(share)}", (children - 1) * share),
    )


def _engine_bytes(engine: EngineSettings) -> int:
    if engine.memory_bytes:
        return engine.memory_bytes
    if engine.stub:
        return STUB_ENGINE_BYTES
    return DEMO_ENGINE_BYTES if engine.checkpoint == DEMO_MODEL else ENGINE_BYTES


def _engine_name(engine: EngineSettings) -> str:
    name = "stub" if engine.stub else engine.checkpoint
    number = len(engine.devices)
    return f"the engine ({name})" if number == 1 else f"{number} × an engine ({name})"


def _refusal(settings: Settings, limit: MemoryLimit, parts: tuple[Part, ...]) -> str:
    total = sum(part.total_bytes for part in parts)
    lines = ", ".join(f"{part.name}: {_mb(part.total_bytes)}" for part in parts)
    return (
        f"the worker needs {_mb(total)}, but has {_mb(limit.limit_bytes)} ({limit.source}). The parts: {lines}. "
        f"Give the worker more memory, or lower DROPLINE_WORKER__CONCURRENCY ({settings.worker.concurrency}), "
        f"DROPLINE_EVENTS__MAX_SIZE_BYTES ({settings.events.max_size_bytes}), "
        f"DROPLINE_IMAGES__CHILD_MEMORY_BYTES ({settings.images.child_memory_bytes}) or, if the engine is known "
        "to need less, DROPLINE_ENGINE__MEMORY_BYTES; see docs/operate.md"
    )


def _mb(count: int) -> str:
    # Upward, so that no part of a sum looks smaller than it is.
    return f"{-(-count // _MB):,} MB"
