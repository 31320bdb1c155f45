"""A pipeline over doubles: rows in memory, objects in memory, and a captioner with one caption."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from db.session import Database
from dropline.contract import Caption, ObjectVersion, Status, WriteBack, WriteOutcome
from dropline.errors import DroplineError, ImageRefused, ObjectGone
from dropline.images.decoded import Decoded
from dropline.images.decoding import decode
from dropline.settings import EngineSettings, EventSettings, Settings, WorkerSettings
from dropline.storage.encodings import Content
from tests.support.image_files import encode, halves
from tests.support.memory_rows import MemoryRows
from tests.support.row_model import Lease
from tests.support.script import Script
from worker.engine.wire import CaptionRequest
from worker.pipeline import Outcome, Pipeline

PNG = encode(halves(64, 48), "PNG")
#: Seconds of transient errors until a row fails.
RETRY_FOR_S = 3600
SETTINGS = Settings(
    worker=WorkerSettings(
        retry_for_s=RETRY_FOR_S, max_lost_attempts=3, retry_base_s=2, retry_cap_s=20, time_limit_s=170
    ),
    engine=EngineSettings(request_timeout_s=77),
    events=EventSettings(max_size_bytes=100_000),
)
#: Seconds of a lease under SETTINGS.
LEASE_S = 200.0
#: The child of the pipeline.
CHILD = "worker/7"


class FakeStore:
    """Objects in memory."""

    def __init__(self, script: Script) -> None:
        self.objects: dict[ObjectVersion, bytes] = {}
        #: A content encoding that is not undone.
        self.coding: str | None = None
        #: The written metadata: caption, task, model.
        self.metadata: dict[ObjectVersion, tuple[str, str, str]] = {}
        #: Called during a write-back.
        self.meanwhile: Callable[[], object] = lambda: None
        #: The result of every write-back.
        self.outcome = WriteOutcome(written=True)
        self._script = script

    def download(self, version: ObjectVersion, max_bytes: int) -> Content:
        """The bytes of the generation; raises ObjectGone and ImageRefused like the real store."""
        self._script.step("download")
        if version not in self.objects:
            raise ObjectGone(f"{version.uri} was overwritten or deleted")
        if len(self.objects[version]) > max_bytes:
            raise ImageRefused(f"{version.uri} is too large", code="object_too_large")
        return Content(self.objects[version], self.coding)

    def check_gone(self, version: ObjectVersion) -> int | None:
        """The newest generation of the object, or None."""
        self._script.step("check_gone")
        return max((each.generation for each in self.objects), default=None)

    def write_metadata(self, write_back: WriteBack) -> WriteOutcome:
        """Keep the caption if `outcome` reports a written one."""
        self._script.step("write_metadata")
        self.meanwhile()
        version = write_back.version
        if version not in self.objects:
            raise ObjectGone(f"{version.uri} was overwritten or deleted")
        if self.outcome.written:
            self.metadata[version] = (write_back.caption, write_back.task, write_back.model)
        return self.outcome


@dataclass(frozen=True)
class TimedRequest:
    """A request to the captioner, and the longest wait for the caption, in seconds."""

    request: CaptionRequest
    timeout_s: float


class FakeCaptioner:
    """Answers each request with the same caption."""

    input_size = 8
    engine = 3
    #: None: no caption of identical bytes is taken.
    model: tuple[str, str] | None = None
    is_tried = False

    def __init__(self, script: Script) -> None:
        self.requests: list[TimedRequest] = []
        #: Called while the model is at work.
        self.meanwhile: Callable[[], object] = lambda: None
        self._script = script

    def announce(self) -> None:
        """Note the announcement."""
        self._script.step("announce")

    def retract(self) -> None:
        """Note the end of the announcement."""
        self._script.step("retract")

    def caption_all(
        self, requests: Sequence[CaptionRequest], *, timeout_s: float
    ) -> list[Caption | DroplineError]:
        """The caption `a red half` for each task, or the planned error of `answer`."""
        self._script.step("caption")
        self.requests += [TimedRequest(request, timeout_s) for request in requests]
        self.meanwhile()
        return [self._answer() for _ in requests]

    def _answer(self) -> Caption | DroplineError:
        try:
            self._script.check("answer")
        except DroplineError as error:
            return error
        return Caption("a red half", None, "fake", "r1")


class InProcessDecoder:
    """Decodes in this process."""

    def __init__(self, script: Script) -> None:
        self._script = script

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """The pixels of an image."""
        self._script.step("decode")
        return decode(data, side_px, SETTINGS.images)


class Middle(random.Random):
    """Draws the middle of each range."""

    def uniform(self, a: float, b: float) -> float:
        """The mean of both ends."""
        return (a + b) / 2


@dataclass
class Bench:
    """A pipeline and the doubles around the pipeline."""

    script: Script
    rows: MemoryRows
    store: FakeStore
    captioner: FakeCaptioner
    database: Database
    sleeps: list[float] = field(default_factory=list)
    #: Hints of the messages sent after a claim.
    woken: list[int] = field(default_factory=list)
    settings: Settings = SETTINGS

    def drop(self, data: bytes = PNG, generation: int = 1, *, priority: int = 0) -> int:
        """Add an object and a queued row: the row's id."""
        row_id = self.rows.register(generation, priority=priority)
        self.store.objects[self.rows.version(row_id)] = data
        return row_id

    def run(self, hint: int) -> Outcome:
        """Take a message; the journal begins anew."""
        self.script.journal.clear()
        return self.pipeline().run(hint)

    def pipeline(self) -> Pipeline:
        """A pipeline over the doubles."""
        return Pipeline(
            self.database,
            self.store,
            InProcessDecoder(self.script),
            self.captioner,
            self.settings,
            claimed_by=CHILD,
            wake=self._wake,
            rng=Middle(),
            sleep=self.sleeps.append,
        )

    def _wake(self, row_id: int) -> None:
        self.script.step("wake")
        self.woken.append(row_id)

    def state(self, row_id: int) -> tuple[Status, str | None, Lease | None]:
        """Status, error code and lease of the row."""
        row = self.rows.row(row_id)
        return row.status, row.code, row.lease

    def wait(self) -> None:
        """Let every lease and every back-off run out."""
        self.rows.model.wait()

    @property
    def journal(self) -> list[str]:
        """The calls since the last message, in order."""
        return self.script.journal


def make_bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A pipeline and doubles, without a row."""
    script = Script()
    rows = MemoryRows(script)
    return Bench(script, rows, FakeStore(script), FakeCaptioner(script), rows.install(monkeypatch))
