"""The costly part of an attempt: download → decode → caption, once for all tasks of an object version."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from db.breakers import Reference
from db.copies import Waits
from dropline.contract import Caption, Claim, Dimensions, ObjectVersion, Original
from dropline.errors import DroplineError, EngineLost, EngineUnavailable, InvalidImage
from dropline.images.decoded import Decoded
from dropline.log import get_logger
from dropline.settings import Settings
from dropline.storage.encodings import Content, Identity
from worker.breaker import EngineUse
from worker.engine.wire import CaptionRequest

log = get_logger(__name__)


class Captioner(Protocol):
    """The engine; see `worker.engine.client.EngineClient`."""

    @property
    def engine(self) -> int:
        """Number of the engine of the last request."""

    @property
    def is_tried(self) -> bool:
        """Whether the breaker of the next image's engine is open, and tries the engine with this image."""

    @property
    def input_size(self) -> int:
        """Pixels per side of the model's input."""

    @property
    def model(self) -> tuple[str, str] | None:
        """Checkpoint and revision of the engine; None while no engine was reached."""

    def announce(self) -> None:
        """Announce a request to the engine."""

    def retract(self) -> None:
        """Withdraw the announced request."""

    def caption_all(
        self, requests: Sequence[CaptionRequest], *, timeout_s: float
    ) -> Sequence[Caption | DroplineError]:
        """Answer the tasks of one image, waiting at most `timeout_s` seconds for the engine."""


class Decoder(Protocol):
    """The decoder process; see `dropline.images.decoder.DecoderProcess`."""

    def decode(self, data: bytes, side_px: int) -> Decoded:
        """Decode one image to a square of `side_px` pixels."""


class Downloads(Protocol):
    """Cloud Storage; see `dropline.storage.objects.ObjectStore`."""

    def download(self, version: ObjectVersion, max_bytes: int) -> Content:
        """The bytes of exactly this generation."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The engine's answer about an image."""

    #: None if no claim needed the model.
    image: Dimensions | None
    #: Of the object's stored bytes.
    size_bytes: int
    #: For each claim, in order: the caption or the error, or what is known of the bytes.
    outcomes: Sequence[Caption | DroplineError | Original | Waits]


#: What is known of a claim by the stored bytes of its object; None: the claim needs the model.
Known = Callable[[Claim, Callable[[], Identity]], Original | Waits | None]


@dataclass(frozen=True, slots=True)
class _Fetched:
    size_bytes: int
    #: By row.
    known: dict[int, Original | Waits]
    #: None if all is known.
    decoded: Decoded | None


class Captioning:
    """Captions the claims of an object version; each child has its own."""

    def __init__(
        self,
        store: Downloads,
        decoder: Decoder,
        captioner: Captioner,
        settings: Settings,
        find_reference: Callable[[], Reference | None],
    ) -> None:
        self._store = store
        self._decoder = decoder
        self._captioner = captioner
        self._settings = settings
        self._find_reference = find_reference
        #: What the engine did with each row of the last attempt, for the breaker of the worker.
        self.engine_uses: list[EngineUse] = []

    def answer(self, claims: Sequence[Claim], known: Known) -> Answers:
        """A download, a decoding and a request to the engine for all claims together.

        Args:
            claims: 1 to `MAX_TASKS`, of one object version.
            known: is asked after the download.

        Raises:
            Exception: no claim is answered.
        """
        if self._captioner.is_tried:
            self._try_engine()
        fetched = self._fetch(claims, known)
        if fetched.decoded is None:
            return Answers(None, fetched.size_bytes, [fetched.known[claim.row_id] for claim in claims])
        rest = [claim for claim in claims if claim.row_id not in fetched.known]
        answered = zip(rest, self._ask(rest, fetched.decoded), strict=True)
        found = fetched.known | {claim.row_id: outcome for claim, outcome in answered}
        return Answers(fetched.decoded.dimensions, fetched.size_bytes, [found[claim.row_id] for claim in claims])

    def _try_engine(self) -> None:
        """Have the engine caption an image of the table once more; nothing is recorded.

        Where all due images kill engines, no other caption would tell them from a broken engine.

        Raises:
            EngineUnavailable: the engine died on it, or was not reached; no claim is at fault.
        """
        reference = self._find_reference()
        decoded = None if reference is None else self._fetch_reference(reference)
        if reference is None or decoded is None:
            return
        request = CaptionRequest(decoded.pixels, reference.task, decoded.dimensions, isolated=True)
        try:
            (outcome,) = self._captioner.caption_all([request], timeout_s=self._settings.engine.request_timeout_s)
        except EngineLost as error:
            self.engine_uses = [self._use(reference, lost=True)]
            raise EngineUnavailable(
                f"the engine died on {reference.version.uri}, which its model has captioned before; the row waits"
            ) from error
        if isinstance(outcome, Caption):
            self.engine_uses = [self._use(reference, lost=False)]

    def _fetch_reference(self, reference: Reference) -> Decoded | None:
        """The image, its request announced; None: it says nothing of the engine, as it is gone."""
        self._captioner.announce()
        decoded = None
        try:
            content = self._store.download(reference.version, self._settings.events.max_size_bytes)
            decoded = self._decode(content)
        except DroplineError as error:
            log.info("reference_not_used", object=reference.version.uri, error=str(error))
        finally:
            if decoded is None:
                self._captioner.retract()
        return decoded

    def _ask(self, claims: Sequence[Claim], decoded: Decoded) -> Sequence[Caption | DroplineError]:
        requests = [
            CaptionRequest(
                decoded.pixels,
                claim.task,
                decoded.dimensions,
                # An image which may have killed or blocked an engine must not take the images of the batch along.
                isolated=claim.lost_attempts + claim.slow_attempts > 0,
                priority=claim.priority,
            )
            for claim in claims
        ]
        return self._use_engine(claims, requests)

    def _use_engine(
        self, claims: Sequence[Claim], requests: Sequence[CaptionRequest]
    ) -> Sequence[Caption | DroplineError]:
        timeout_s = self._settings.engine.request_timeout_s
        try:
            outcomes = self._captioner.caption_all(requests, timeout_s=timeout_s)
        except EngineLost:
            self.engine_uses += [self._use(claim, lost=True) for claim in claims]
            raise
        self.engine_uses += [
            self._use(claim, lost=False)
            for claim, outcome in zip(claims, outcomes, strict=True)
            if isinstance(outcome, Caption)
        ]
        return outcomes

    def _use(self, work: Claim | Reference, *, lost: bool) -> EngineUse:
        digest = hashlib.blake2b(work.version.uri.encode(), digest_size=7).digest()
        return EngineUse(self._captioner.engine, work.row_id, lost, int.from_bytes(digest))

    def _fetch(self, claims: Sequence[Claim], known: Known) -> "_Fetched":
        # Announced first: without an engine the download is useless.
        self._captioner.announce()
        decoded = None
        try:
            content = self._store.download(claims[0].version, self._settings.events.max_size_bytes)
            found = {claim.row_id: known(claim, content.identity) for claim in claims}
            answered = {row_id: each for row_id, each in found.items() if each is not None}
            if len(answered) < len(claims):
                decoded = self._decode(content)
            return _Fetched(content.size_bytes, answered, decoded)
        finally:
            if decoded is None:
                self._captioner.retract()

    def _decode(self, content: Content) -> Decoded:
        try:
            return self._decoder.decode(content.data, self._captioner.input_size)
        except InvalidImage as error:
            raise content.explain(error) from error
