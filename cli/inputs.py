"""The inputs of `dropline caption`: files, standard input, addresses, and objects of a bucket."""

import io
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from dropline.contract import parse_uri
from dropline.errors import ClientError

_STDIN = "-"
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")


class Kind(Enum):
    """Where the image is."""

    PATH = "path"
    STDIN = "stdin"
    OBJECT = "object"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True)
class Input:
    """One input of the command line."""

    #: As given.
    text: str
    kind: Kind
    #: Why there is no image; such an input is not submitted, and does not stop the others.
    error: ClientError | None = None

    @property
    def shown(self) -> str:
        """The input in a message."""
        return "standard input" if self.kind is Kind.STDIN else self.text

    @property
    def name(self) -> str:
        """The name of the file; empty for standard input."""
        return Path(self.text).name if self.kind is Kind.PATH else ""

    @contextmanager
    def opened(self, max_bytes: int) -> Iterator[BinaryIO]:
        """The bytes of a file or of standard input, as a seekable file.

        Of a pipe, at most one byte more than `max_bytes` is read.

        Raises:
            OSError: the file cannot be read.
        """
        if self.kind is Kind.STDIN:
            yield io.BytesIO(sys.stdin.buffer.read(max_bytes + 1))
            return
        with Path(self.text).open("rb") as file:
            yield file if file.seekable() else io.BytesIO(file.read(max_bytes + 1))


def parse_inputs(texts: Sequence[str]) -> list[Input]:
    """The inputs of the command line; files are not opened yet.

    A path that is missing or a directory, and a text that is no URI and no address, is an input with an error.

    Raises:
        ClientError: standard input is named twice.
    """
    found = [_parse_input(text) for text in texts]
    if Counter(each.kind for each in found)[Kind.STDIN] > 1:
        raise ClientError("standard input has one image; give `-` once")
    return found


def _parse_input(text: str) -> Input:
    if text == _STDIN:
        return Input(text, Kind.STDIN)
    if text.startswith("gs://"):
        return Input(text, Kind.OBJECT, _error_of_uri(text))
    if text.lower().startswith(("http://", "https://")):
        return Input(text, Kind.ADDRESS)
    if _SCHEME.match(text):
        told = f"{text!r} is no address that can be captioned; give https://, gs://, a path, or `-`"
        return Input(text, Kind.ADDRESS, ClientError(told))
    return Input(text, Kind.PATH, _error_of_path(Path(text)))


def _error_of_uri(uri: str) -> ClientError | None:
    try:
        parse_uri(uri)
    except ClientError as error:
        return error
    return None


def _error_of_path(path: Path) -> ClientError | None:
    if path.is_dir():
        return ClientError(f"{path} is a directory; `dropline drop {path} --wait` captions all images in it")
    return None if path.exists() else ClientError(f"{path} is not there; check the path")
