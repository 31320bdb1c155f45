"""The steps of a flow: what a client carries out, plain or asynchronous, before the flow goes on."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2

T = TypeVar("T")

#: Seconds until a connection is given up.
CONNECT_S = 10.0


@dataclass(frozen=True, slots=True)
class Call:
    """A request; the flow gets the response, or the `httpx2.RequestError`."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    form: Mapping[str, str] | None = None
    #: Name, bytes and content type of the field `file` of a form.
    file: tuple[str, bytes, str] | None = None
    content: bytes | None = None
    #: Seconds without a byte of the answer.
    silence_s: float = 30.0

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments of `httpx2.Client.request`."""
        return {
            "method": self.method,
            "url": self.url,
            "headers": self.headers,
            "params": self.params or None,
            "json": self.json,
            "data": self.form,
            "files": None if self.file is None else {"file": self.file},
            "content": self.content,
            "timeout": httpx2.Timeout(self.silence_s, connect=min(CONNECT_S, self.silence_s)),
        }


@dataclass(frozen=True, slots=True)
class Read:
    """Reads a part of a file; the flow gets a `Part`, or the `OSError`."""

    path: Path
    offset: int
    length: int

    def run(self) -> "Part":
        """Read in the calling thread."""
        with self.path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(self.offset)
            return Part(file.read(self.length), size)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes of a file, and the size of the whole file."""

    data: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Pause:
    """Waits; the flow gets None."""

    seconds: float


Step = Call | Read | Pause
Flow = Generator[Step, Any, T]
