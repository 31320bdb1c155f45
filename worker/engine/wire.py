"""The protocol between a child and the engine: JSON messages, validated on arrival.

A child runs decoders on untrusted bytes, so the engine unpickles no message of a child.

    engine ▶ child   Hello, then the descriptor of the child's slot
    child  ▶ engine  Announce: a request will follow; Retract: the announced request will not follow
    child  ▶ engine  Request: the tasks of one image, whose pixels are in the slot
    engine ▶ child   Started, when the first batch of the request begins; then Answered, once all tasks have ended
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dropline.contract import Caption, Dimensions, TaskRequest
from dropline.task_list import MAX_TASKS
from worker.engine.slot import Pixels

#: Maximum length of a child's message, in bytes.
MAX_CHILD_MESSAGE_BYTES = 16_384


@dataclass(frozen=True, slots=True, eq=False)
class CaptionRequest:
    """One task of one image. Requests of one image have the same array of pixels."""

    #: uint8 `[input_size, input_size, 3]`, RGB.
    pixels: Pixels
    task: TaskRequest
    #: Of the upright original; boxes and polygons of the caption refer to these dimensions.
    original: Dimensions
    #: Run the request in a batch of its own: the image may have killed an engine before.
    isolated: bool = False
    #: Of the row: 0 fresh, 1 redone, 2 bulk. In the queue of the engine, too, fresh images go first.
    priority: int = 0


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
    #: Of the captions.
    model: str
    revision: str


class Announce(_Message):
    """A request will follow."""

    op: Literal["announce"] = "announce"


class Retract(_Message):
    """The announced request will not follow."""

    op: Literal["retract"] = "retract"


class Request(_Message):
    """The tasks of one image, without the pixels, which are in the slot."""

    op: Literal["request"] = "request"
    id: int
    #: Canonical spellings of the task prompts.
    tasks: tuple[str, ...] = Field(min_length=1, max_length=MAX_TASKS)
    #: Of the upright original, in pixels.
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    isolated: bool
    priority: int = Field(ge=0)

    @classmethod
    def of(cls, request_id: int, requests: Sequence[CaptionRequest]) -> "Request":
        """The message of the requests of one image."""
        original = requests[0].original
        return cls(
            id=request_id,
            tasks=tuple(str(request.task) for request in requests),
            width=original.width,
            height=original.height,
            isolated=requests[0].isolated,
            priority=min(each.priority for each in requests),
        )

    def with_pixels(self, pixels: Pixels) -> list[CaptionRequest]:
        """The requests of this message, one for each task.

        Raises:
            InvalidTask: Florence-2 has no such task.
        """
        original = Dimensions(self.width, self.height)
        return [
            CaptionRequest(pixels, TaskRequest.parse(task), original, self.isolated, self.priority)
            for task in self.tasks
        ]


class Started(_Message):
    """The model has begun with the request."""

    op: Literal["started"] = "started"
    id: int


class Captioned(_Message):
    """The caption of a task."""

    op: Literal["captioned"] = "captioned"
    caption: Caption


class Failed(_Message):
    """The error of a task."""

    op: Literal["failed"] = "failed"
    #: Whether another attempt could succeed.
    transient: bool
    #: Of a permanent error: the row's `error_code`.
    code: str
    message: str


class Answered(_Message):
    """The end of a request."""

    op: Literal["answered"] = "answered"
    id: int
    #: In the order of the request's tasks.
    outcomes: tuple[Annotated[Captioned | Failed, Field(discriminator="op")], ...]


FromChild = Announce | Retract | Request
FromEngine = Hello | Started | Answered

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
