"""The protocol between a worker's child and its decoder process.

    control socket, one per decoder process
        decoder ▶ child   Ready, once: the active measures of the sandbox
        child   ▶ decoder BEGIN with a descriptor: the memory of a new process for images, and its data socket
        child   ▶ decoder END: the process for images has to end
        decoder ▶ child   Ended: how the process for images ended
    data socket, one per process for images
        child   ▶ decoder Request, then the bytes of the file
        decoder ▶ child   Answer, then the pixels (side_px² · 3 bytes), or the text of a refusal

Every message is a fixed number of integers; lengths are checked before any byte is read. A process for images has
untrusted bytes in its memory, so an answer is untrusted: a wrong answer is `WrongAnswer`.
"""

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from dropline.contract import Dimensions
from dropline.errors import DroplineError, ImageRefused, InvalidImage, PermanentError
from dropline.settings import ImageSettings

#: Longest text of a refusal, in bytes of UTF-8.
MAX_TEXT_BYTES = 2000
#: The codes that a decoder may give, in the order of their numbers in an answer, which begin with 1.
REFUSALS: Mapping[str, type[PermanentError]] = {
    "empty_object": InvalidImage,
    "not_an_image": InvalidImage,
    "unsupported_format": InvalidImage,
    "heic_unsupported": InvalidImage,
    "truncated_image": InvalidImage,
    "corrupt_image": InvalidImage,
    "image_too_large": ImageRefused,
    "image_too_complex": ImageRefused,
    "out_of_memory": ImageRefused,
}
_CODES = tuple(REFUSALS)
#: The message before the first image: the active measures of the sandbox.
READY = struct.Struct("!I")

#: The message before a process for images: bytes of memory that the process may allocate; 0: no limit.
BEGIN = struct.Struct("!Q")
END = b"e"


class WrongAnswer(Exception):
    """Bytes that are no answer of this protocol."""


@dataclass(frozen=True, slots=True)
class Request:
    """The beginning of a request; the bytes of the file follow."""

    length: int
    side_px: int

    FORMAT: ClassVar = struct.Struct("!QI")

    def pack(self) -> bytes:
        """The message."""
        return self.FORMAT.pack(self.length, self.side_px)

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """The request in a message of `FORMAT.size` bytes."""
        return cls(*cls.FORMAT.unpack(message))


@dataclass(frozen=True, slots=True)
class Answer:
    """The beginning of an answer; pixels or a text follow."""

    #: 0: pixels follow; else the number of a code in `REFUSALS`.
    status: int
    #: Of the upright original, in pixels; 0 for a refusal.
    width: int
    height: int
    #: Bytes of the text; 0 for pixels.
    text_bytes: int

    FORMAT: ClassVar = struct.Struct("!IIII")

    @classmethod
    def of_pixels(cls, dimensions: Dimensions) -> Self:
        """The answer before the pixels."""
        return cls(0, dimensions.width, dimensions.height, 0)

    def pack(self) -> bytes:
        """The message."""
        return self.FORMAT.pack(self.status, self.width, self.height, self.text_bytes)

    @classmethod
    def unpack(cls, message: bytes, limits: ImageSettings) -> Self:
        """The answer in a message of `FORMAT.size` bytes.

        Raises:
            WrongAnswer: an unknown code, a text without a refusal, or a size beyond the limits.
        """
        answer = cls(*cls.FORMAT.unpack(message))
        size = (answer.width, answer.height)
        if answer.status == 0:
            right = answer.text_bytes == 0 and min(size) >= 1 and _within(size, limits)
        else:
            right = answer.status <= len(_CODES) and answer.text_bytes <= MAX_TEXT_BYTES and size == (0, 0)
        if not right:
            raise WrongAnswer(f"status {answer.status}, size {size}, {answer.text_bytes} bytes of text")
        return answer

    def error(self, text: bytes) -> PermanentError:
        """The refusal, with its text made harmless."""
        code = _CODES[self.status - 1]
        return REFUSALS[code](printable(text) or code, code=code)


def refusal(error: DroplineError) -> bytes:
    """The complete answer of a refusal; an error of another code counts as a damaged image."""
    status = _CODES.index(error.code) if error.code in REFUSALS else _CODES.index("corrupt_image")
    text = str(error).encode("utf-8", "replace")[:MAX_TEXT_BYTES]
    return Answer(status + 1, 0, 0, len(text)).pack() + text


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a process for images."""

    #: The signal that ended the process; 0 for an exit.
    signal: int
    #: The exit code; `STILL_RUNNING` for a process that had to be killed after END; `NOT_STARTED` for a process
    #: that the system refused, a code that no process can have.
    code: int

    STILL_RUNNING: ClassVar = 255
    NOT_STARTED: ClassVar = 256
    FORMAT: ClassVar = struct.Struct("!II")

    @classmethod
    def of(cls, wait_status: int) -> Self:
        """From the status of `waitpid`."""
        code = os.waitstatus_to_exitcode(wait_status)
        return cls(-code, 0) if code < 0 else cls(0, code)

    def pack(self) -> bytes:
        """The message."""
        return self.FORMAT.pack(self.signal, self.code)

    @classmethod
    def unpack(cls, message: bytes) -> Self:
        """The end in a message of `FORMAT.size` bytes."""
        return cls(*cls.FORMAT.unpack(message))


def printable(text: bytes) -> str:
    """Untrusted bytes as one line: control and invisible characters replaced, and cut at `MAX_TEXT_BYTES`."""
    decoded = text[:MAX_TEXT_BYTES].decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "�" for char in decoded)


def _within(size: tuple[int, int], limits: ImageSettings) -> bool:
    width, height = size
    return width * height <= limits.max_pixels and max(size) <= limits.max_side
