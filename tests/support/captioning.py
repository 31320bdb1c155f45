"""Doubles of Cloud Storage and of the engine, for a pipeline without either."""

from collections.abc import Callable
from dataclasses import dataclass

from dropline.contract import Caption, ObjectVersion, WriteBack, WriteOutcome
from dropline.errors import ImageRefused, ObjectGone
from tests.support.script import Script
from worker.engine.wire import CaptionRequest


class FakeStore:
    """Objects in memory."""

    def __init__(self, script: Script) -> None:
        self.objects: dict[ObjectVersion, bytes] = {}
        #: The written metadata: caption, task, model.
        self.metadata: dict[ObjectVersion, tuple[str, str, str]] = {}
        #: What the next write-back reports.
        self.outcome = WriteOutcome(written=True)
        self._script = script

    def download(self, version: ObjectVersion, max_bytes: int) -> bytes:
        """The bytes of this generation; ObjectGone or ImageRefused as the real store."""
        self._script.step("download")
        if version not in self.objects:
            raise ObjectGone(f"{version.uri} was overwritten or deleted")
        if len(self.objects[version]) > max_bytes:
            raise ImageRefused(f"{version.uri} is too large", code="object_too_large")
        return self.objects[version]

    def live_generation(self, version: ObjectVersion) -> int | None:
        """The newest generation of the object, or None."""
        self._script.step("live_generation")
        return max((each.generation for each in self.objects), default=None)

    def write_metadata(self, write_back: WriteBack) -> WriteOutcome:
        """Keep the caption where `outcome` reports that it was written."""
        self._script.step("write_metadata")
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

    def __init__(self, script: Script) -> None:
        self.requests: list[TimedRequest] = []
        #: Called while the model is at work.
        self.meanwhile: Callable[[], object] = lambda: None
        self._script = script

    def announce(self) -> None:
        """Note the announcement."""
        self._script.step("announce")

    def retract(self) -> None:
        """Note that the announced request will not come."""
        self._script.step("retract")

    def caption(self, request: CaptionRequest, *, timeout_s: float) -> Caption:
        """The caption `a red half`."""
        self._script.step("caption")
        self.requests.append(TimedRequest(request, timeout_s))
        self.meanwhile()
        return Caption("a red half", None, "fake", "r1")
