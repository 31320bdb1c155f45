"""Damaged copies of the corpus' files: a seed and a number give the same bytes each time."""

import random
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

from tests.corpus.expected import Case
from tests.corpus.table import CASES
from tests.corpus.writers.boxes import boxes

#: Longer files are cut: decoding a long file takes the time of many short files.
_MOST_BYTES = 250_000
_INTERESTING = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)
#: Boxes of ISO files with boxes inside, and the bytes before the first one.
_CONTAINERS = {b"meta": 12, b"iprp": 8, b"ipco": 8, b"moov": 8, b"iref": 12, b"jp2h": 8}


@dataclass(frozen=True, slots=True)
class Mutant:
    """A damaged file."""

    #: The original file and the operations, in words.
    history: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Field:
    """An integer inside a file: a length, a count or a place."""

    at: int
    size: int
    big_endian: bool


def mutant(seed: int, number: int) -> Mutant:
    """The damaged file with the given number in the series of the seed."""
    rng = random.Random(f"{seed}:{number}")
    case = rng.choice(CASES)
    data = _bytes_of(case.name)
    names = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        operation = rng.choice(_OPERATIONS)
        names.append(operation.__name__.strip("_"))
        data = operation(data, rng, case.topic)
    return Mutant(f"{case.name}: {', '.join(names)}", data)


@cache
def _by_name() -> dict[str, Case]:
    return {case.name: case for case in CASES}


@cache
def _bytes_of(name: str) -> bytes:
    data = _by_name()[name].make()
    return data if len(data) <= _MOST_BYTES else data[:_MOST_BYTES]


def _flip_bits(data: bytes, rng: random.Random, _: str) -> bytes:
    out = bytearray(data)
    for _i in range(rng.choice((1, 2, 4, 16, 64)) if out else 0):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _flip_bits_of_the_header(data: bytes, rng: random.Random, topic: str) -> bytes:
    head = rng.choice((32, 128, 512))
    return _flip_bits(data[:head], rng, topic) + data[head:]


def _set_bytes(data: bytes, rng: random.Random, _: str) -> bytes:
    at, count = rng.randrange(len(data) + 1), rng.choice((1, 2, 4, 40))
    return data[:at] + bytes([rng.choice(_INTERESTING)]) * min(count, len(data) - at) + data[at + count :]


def _truncate(data: bytes, rng: random.Random, _: str) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _delete(data: bytes, rng: random.Random, _: str) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 2, 7, 64, 1000)) :]


def _insert(data: bytes, rng: random.Random, _: str) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 7, 64, 1000))) + data[at:]


def _repeat(data: bytes, rng: random.Random, _: str) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at : at + rng.choice((4, 40, 400))] * rng.choice((2, 9, 90)) + data[at:]


def _splice(data: bytes, rng: random.Random, topic: str) -> bytes:
    """The beginning of one file and the end of another, mostly of the same format."""
    same = [case for case in CASES if case.topic == topic]
    other = _bytes_of(rng.choice(same if rng.random() < 0.8 else CASES).name)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _change_field(data: bytes, rng: random.Random, _: str) -> bytes:
    """Another value for a length, a count or a place."""
    found = fields(data)
    if not found:
        return _flip_bits(data, rng, "")
    field = rng.choice(found)
    most = (1 << 8 * field.size) - 1
    order: Literal["big", "little"] = "big" if field.big_endian else "little"
    old = int.from_bytes(data[field.at : field.at + field.size], order)
    values: Sequence[int] = (0, 1, old - 1, old + 1, old * 2, len(data), most, most >> 1, rng.randrange(most + 1))
    new = (rng.choice(values) & most).to_bytes(field.size, order)
    return _with_checksums(data[: field.at] + new + data[field.at + field.size :])


def _flip_behind_a_field(data: bytes, rng: random.Random, _: str) -> bytes:
    """Bits of the first bytes of a chunk, with a right checksum."""
    found = fields(data)
    if not found:
        return _flip_bits(data, rng, "")
    start = rng.choice(found).at
    return _with_checksums(data[:start] + _flip_bits(data[start : start + 40], rng, "") + data[start + 40 :])


_OPERATIONS: tuple[Callable[[bytes, random.Random, str], bytes], ...] = (
    _flip_bits,
    _flip_bits_of_the_header,
    _set_bytes,
    _truncate,
    _delete,
    _insert,
    _repeat,
    _splice,
    _change_field,
    _change_field,
    _change_field,
    _flip_behind_a_field,
    _flip_behind_a_field,
)


def fields(data: bytes) -> list[Field]:
    """The lengths, counts and places in the headers of `data`; none for a format without chunks."""
    if data.startswith(b"\xff\xd8"):
        return _jpeg_fields(data)
    if data.startswith(b"\x89PNG"):
        return [each for at in _png_chunks(data) for each in (Field(at, 4, True), Field(at + 8, 4, True))]
    if data.startswith(b"RIFF"):
        return [Field(4, 4, False), *_riff_fields(data)]
    if data[4:8] in (b"ftyp", b"jP  ", b"JXL "):
        return _box_fields(data, 0, len(data))
    if data[:2] in (b"II", b"MM"):
        return _tiff_fields(data)
    if data.startswith((b"GIF", b"BM")):
        return [Field(at, 2, False) for at in range(6, 40, 2)]
    return []


def _jpeg_fields(data: bytes) -> list[Field]:
    found, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        found += [Field(at + 2, 2, True), Field(at + 4, 4, True), Field(at + 7, 2, True)]
        at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    return [*found, Field(at + 2, 2, True)]


def _png_chunks(data: bytes) -> list[int]:
    found, at = [], 8
    while at + 12 <= len(data):
        found.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return found


def _riff_fields(data: bytes) -> list[Field]:
    found, at = [], 12
    while at + 8 <= len(data):
        found += [Field(at + 4, 4, False), Field(at + 8, 4, False)]
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return found


def _box_fields(data: bytes, first: int, end: int) -> list[Field]:
    found = []
    for start, stop, name in boxes(data[first:end]):
        at = first + start
        found += [Field(at, 4, True), Field(at + 8, 4, True), Field(at + 12, 2, True), Field(at + 14, 4, True)]
        if name in _CONTAINERS:
            found += _box_fields(data, at + _CONTAINERS[name], first + stop)
    return found


def _tiff_fields(data: bytes) -> list[Field]:
    """Type, count and value of each entry of the first 16 directories."""
    big = data.startswith(b"MM")
    order = ">" if big else "<"
    found, at = [Field(4, 4, big)], 4
    for _ in range(16):
        if at + 4 > len(data):
            break
        (directory,) = struct.unpack_from(order + "I", data, at)
        if directory + 2 > len(data) or directory < 8:
            break
        (count,) = struct.unpack_from(order + "H", data, directory)
        for entry in range(directory + 2, min(directory + 2 + 12 * count, len(data)), 12):
            found += [Field(entry + inside, size, big) for inside, size in ((0, 2), (2, 2), (4, 4), (8, 4))]
        at = directory + 2 + 12 * count
    return found


def _with_checksums(data: bytes) -> bytes:
    """A PNG with right checksums again; other files unchanged."""
    if not data.startswith(b"\x89PNG"):
        return data
    out = bytearray(data)
    for at in _png_chunks(data):
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 <= len(data):
            struct.pack_into(">I", out, end, zlib.crc32(data[at + 4 : end]))
    return bytes(out)
