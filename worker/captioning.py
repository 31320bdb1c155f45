"""The costly part of an attempt: download → decode → caption, once for all tasks of an object version."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dropline.contract import Caption, Claim, Dimensions, ObjectVersion
from dropline.errors import DroplineError, EngineLost, InvalidImage
from dropline.images.decoded import Decoded
from dropline.settings import Settings
from dropline.storage.encodings import Content
from worker.breaker import EngineUse
from worker.engine.wire import CaptionRequest


class Captioner(Protocol):
    """The engine; see `worker.engine.client.EngineClient`."""

    @property
    def engine(self) -> int:
        """Number of the engine of the last request."""

    @property
    def input_size(self) -> int:
        """Pixels per side of the model's input."""

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
    """What the engine said about one image."""

    image: Dimensions
    #: Of the downloaded object.
    size_bytes: int
    #: The caption or the error of each claim, in order.
    outcomes: Sequence[Caption | DroplineError]


class Captioning:
    """Captions the claims of one object version; each child has one."""

    def __init__(self, store: Downloads, decoder: Decoder, captioner: Captioner, settings: Settings) -> None:
        self._store = store
        self._decoder = decoder
        self._captioner = captioner
        self._settings = settings
        #: What the engine did with each row of the last attempt, for the breaker of the worker.
        self.engine_uses: list[EngineUse] = []

    def answer(self, claims: Sequence[Claim]) -> Answers:
        """One download, one decoding and one request to the engine for all claims.

        Args:
            claims: 1 to `MAX_TASKS`, of one object version.

        Raises:
            Exception: no claim is answered.
        """
        size_bytes, decoded = self._fetch(claims[0].version)
        requests = [
            CaptionRequest(
                decoded.pixels,
                claim.task,
                decoded.dimensions,
                # An image that may have killed or blocked an engine must not take the images of its batch along.
                isolated=claim.lost_attempts + claim.slow_attempts > 0,
            )
            for claim in claims
        ]
        return Answers(decoded.dimensions, size_bytes, self._use_engine(claims, requests))

    def _use_engine(
        self, claims: Sequence[Claim], requests: Sequence[CaptionRequest]
    ) -> Sequence[Caption | DroplineError]:
        timeout_s = self._settings.engine.request_timeout_s
        try:
            outcomes = self._captioner.caption_all(requests, timeout_s=timeout_s)
        except EngineLost:
            self.engine_uses = [self._use(claim, lost=True) for claim in claims]
            raise
        self.engine_uses = [
            self._use(claim, lost=False)
            for claim, outcome in zip(claims, outcomes, strict=True)
            if isinstance(outcome, Caption)
        ]
        return outcomes

    def _use(self, claim: Claim, *, lost: bool) -> EngineUse:
        digest = hashlib.blake2b(claim.version.uri.encode(), digest_size=7).digest()
        return EngineUse(self._captioner.engine, claim.row_id, lost, int.from_bytes(digest))

    def _fetch(self, version: ObjectVersion) -> tuple[int, Decoded]:
        # Announced first: without an engine the download is useless.
        self._captioner.announce()
        try:
            content = self._store.download(version, self._settings.events.max_size_bytes)
            return len(content.data), self._decode(content)
        except BaseException:
            self._captioner.retract()
            raise

    def _decode(self, content: Content) -> Decoded:
        try:
            return self._decoder.decode(content.data, self._captioner.input_size)
        except InvalidImage as error:
            raise content.explain(error) from error
