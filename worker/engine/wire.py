"""The messages between a child and the engine: JSON, validated on arrival.

A child runs decoders on untrusted bytes, so nothing it sends is unpickled.

    engine ▶ child   Hello, then the descriptor of the child's slot
    child  ▶ engine  Announce, Retract: a request is, or is no longer, on its way
    child  ▶ engine  Ask: the pixels lie in the slot
    engine ▶ child   Started, when its batch begins; then Answer or Refusal
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

#: No message of a child is longer, in bytes.
MAX_FROM_CHILD = 16_384


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    def encode(self) -> bytes:
        """The message as it travels."""
        return self.model_dump_json().encode()


class Hello(_Message):
    """What a child must know of the engine."""

    op: Literal["hello"] = "hello"
    #: Pixels per side of the square that the model takes.
    input_size: int
    model: str
    model_revision: str


class Announce(_Message):
    """A request is on its way."""

    op: Literal["announce"] = "announce"


class Retract(_Message):
    """The announced request will not come."""

    op: Literal["retract"] = "retract"


class Ask(_Message):
    """A request: its pixels lie in the slot."""

    op: Literal["ask"] = "ask"
    id: int
    #: Canonical spelling of the task.
    task: str
    #: Size of the upright original, in pixels.
    width: int = Field(ge=1)
    height: int = Field(ge=1)
    #: Run it in a batch of its own.
    isolated: bool


class Started(_Message):
    """The model has begun with the request."""

    op: Literal["started"] = "started"
    id: int


class Answer(_Message):
    """The model's answer."""

    op: Literal["answer"] = "answer"
    id: int
    text: str
    result: dict[str, Any] | None


class Refusal(_Message):
    """There is no answer, and why."""

    op: Literal["refusal"] = "refusal"
    id: int
    #: Whether another attempt could fare better.
    transient: bool
    message: str


FromChild = Announce | Retract | Ask
FromEngine = Hello | Started | Answer | Refusal

_FROM_CHILD: TypeAdapter[FromChild] = TypeAdapter(Annotated[FromChild, Field(discriminator="op")])
_FROM_ENGINE: TypeAdapter[FromEngine] = TypeAdapter(Annotated[FromEngine, Field(discriminator="op")])


def from_child(message: bytes) -> FromChild:
    """Read a child's message.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _FROM_CHILD.validate_json(message)


def from_engine(message: bytes) -> FromEngine:
    """Read an engine's message.

    Raises:
        pydantic.ValidationError: it is none.
    """
    return _FROM_ENGINE.validate_json(message)
