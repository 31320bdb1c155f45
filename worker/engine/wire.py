"""The protocol between a child and the engine: JSON messages, validated on arrival.

A child runs decoders on untrusted bytes, so the engine unpickles no message of a child.

    engine ▶ child   Hello, then the descriptor of the child's slot
    child  ▶ engine  Announce: a request will follow; Retract: the announced request will not follow
    child  ▶ engine  Request: a `CaptionRequest`, whose pixels are in the slot
    engine ▶ child   Started, when the batch of the request begins; then Captioned or Failed
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dropline.contract import Caption, Dimensions, TaskRequest
from worker.engine.slot import Pixels

#: Maximum length of a child's message, in bytes.
MAX_CHILD_MESSAGE_BYTES = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class CaptionRequest:
    """One image to caption."""

    #: uint8 `[input_size, input_size, 3]`, RGB.
    pixels: Pixels
    task: TaskRequest
    #: Of the upright original; boxes and polygons of the caption refer to these dimensions.
    original: Dimensions
    #: Run the request in a batch of its own: the image may have killed an engine before.
    isolated: bool = False


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        """The message as JSON."""
        return self.model_dump_json().encode()


class Hello(_Message):
    """The first message of the engine, sent once its model is loaded."""

    op: Literal["hello"] = "hello"
    #: Pixels per side of the square image that the model takes.
    input_size: int
    #: Number of the engine, as in `worker.engine.process.StartRequest`.
    engine: int


class Announce(_Message):
    """A request will follow."""

    op: Literal["announce"] = "announce"


class Retract(_Message):
    """The announced request will not follow."""

    op: Literal["retract"] = "retract"


class Request(_Message):
    """A `CaptionRequest` without the pixels, which are in the slot."""

    op: Literal["request"] = "request"
    id: int
    #: Canonical spelling of the task prompt.
    task: str
    #: Of the upright original, in pixels.
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    isolated: bool

    @classmethod
    def of(cls, request_id: int, request: CaptionRequest) -> "Request":
        """The message of a request."""
        original = request.original
        return cls(
            id=request_id,
            task=str(request.task),
            width=original.width,
            height=original.height,
            isolated=request.isolated,
        )

    def with_pixels(self, pixels: Pixels) -> CaptionRequest:
        """The request of this message.

        Raises:
            InvalidTask: Florence-2 has no such task.
        """
        original = Dimensions(self.width, self.height)
        return CaptionRequest(pixels, TaskRequest.parse(self.task), original, self.isolated)


class Started(_Message):
    """The model has begun with the request."""

    op: Literal["started"] = "started"
    id: int


class Captioned(_Message):
    """The caption of a request."""

    op: Literal["captioned"] = "captioned"
    id: int
    caption: Caption


class Failed(_Message):
    """The error of a request."""

    op: Literal["failed"] = "failed"
    id: int
    #: Whether another attempt could succeed.
    transient: bool
    #: Of a permanent error: the row's `error_code`.
    code: str
    message: str


FromChild = Announce | Retract | Request
FromEngine = Hello | Started | Captioned | Failed

_FROM_CHILD: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="op")])
_FROM_ENGINE: TypeAdapter[FromEngine] = TypeAdapter(Annotated[FromEngine, Field(discriminator="op")])


def from_child(message: bytes) -> FromChild:
    """Decode a child's message.

    Raises:
        pydantic.ValidationError: no message of this protocol.
    """
    return _FROM_CHILD.validate_json(message)


def from_engine(message: bytes) -> FromEngine:
    """Decode an engine's message.

    Raises:
        pydantic.ValidationError: no message of this protocol.
    """
    return _FROM_ENGINE.validate_json(message)
