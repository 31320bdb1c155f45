"""Image files made by the tests: valid files, and files with false headers."""

import io
import struct
import zlib
from typing import Any

import numpy.typing as npt
from PIL import Image, ImageDraw

from tests.corpus.writers.png import END, SIGNATURE
from tests.corpus.writers.png import chunk as png_chunk
from tests.corpus.writers.png import header as png_ihdr

#: Two colours that stay distinct in JPEG, for left and right or above and below.
RED, BLUE = (200, 30, 30), (30, 30, 200)
WHITE = (248, 248, 248)

PDF = b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n"
SVG = b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>'
MP4 = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + b"\x00" * 64
TEXT = "Dear diary, this is no photograph, but I called it one. Grüße!\n".encode()


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    """The bytes of `image` as a file of `kind`."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def halves(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image.convert(mode)


def quadrants(side: int = 96) -> Image.Image:
    """Four greys, one per corner: each rotation and flip looks different."""
    image = Image.new("L", (side, side))
    half = side // 2
    for shade, corner in zip((20, 90, 160, 230), ((0, 0), (half, 0), (0, half), (half, half)), strict=True):
        image.paste(shade, (*corner, corner[0] + half, corner[1] + half))
    return image


def exif(orientation: int) -> bytes:
    """An EXIF block with an orientation."""
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags.tobytes()


def png_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes with any size in its header."""
    return SIGNATURE + png_ihdr(width, height) + png_chunk(b"IDAT", zlib.compress(bytes(1000))) + END


def png_with_text_bomb(megabytes: int) -> bytes:
    """A small picture with a compressed comment of `megabytes` after decompression."""
    comment = b"Comment\x00\x00" + zlib.compress(b"a" * (megabytes * 2**20), 9)
    good = encode(halves(), "PNG")
    return good[:33] + png_chunk(b"zTXt", comment) + good[33:]


def png_bomb(side: int) -> bytes:
    """A complete, tiny PNG of `side` times `side` black pixels."""
    packer = zlib.compressobj(9)
    row = b"\x00" * (1 + side * 3)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    return SIGNATURE + png_ihdr(side, side) + png_chunk(b"IDAT", body) + END


def jpeg_with_huge_exif(segments: int) -> bytes:
    """A small JPEG with EXIF in many segments, and a directory that points into all segments."""
    total = segments * 65_000
    entries = b"".join(struct.pack("<HHII", 0x8000 + i, 7, total - 8, 8) for i in range(5000))
    body = b"II*\x00" + struct.pack("<IH", 8, 5000) + entries + struct.pack("<I", 0)
    body = body.ljust(total, b"x")
    marks = b""
    for at in range(0, total, 65_000):
        segment = b"Exif\x00\x00" + body[at : at + 65_000]
        marks += b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    good = encode(halves(), "JPEG")
    return good[:2] + marks + good[2:]


def scene(width: int = 160, height: int = 120, mode: str = "RGB") -> Image.Image:
    """A red circle, a white triangle and a blue square on grey."""
    image = Image.new("RGB", (width * 4, height * 4), (150, 150, 150))
    pen = ImageDraw.Draw(image)
    across, down = width * 4, height * 4
    pen.ellipse((across * 0.08, down * 0.2, across * 0.32, down * 0.5), fill=(220, 32, 36))
    pen.polygon([(across * 0.4, down * 0.8), (across * 0.5, down * 0.5), (across * 0.6, down * 0.8)], fill=WHITE)
    pen.rectangle((across * 0.7, down * 0.3, across * 0.92, down * 0.6), fill=(36, 84, 220))
    return image.resize((width, height), Image.Resampling.BOX).convert(mode)


def png(header: tuple[int, int, int, int, int], rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of width, height, bits, colour type and interlacing, filtered rows, and chunks before the pixels."""
    width, height, bits, colour, interlaced = header
    before = b"".join(png_chunk(name, body) for name, body in chunks)
    pixels = png_chunk(b"IDAT", zlib.compress(rows))
    return SIGNATURE + png_ihdr(width, height, bits, colour, bool(interlaced)) + before + pixels + END


def png_with(good: bytes, name: bytes, body: bytes) -> bytes:
    """A PNG with another chunk behind its header."""
    return good[:33] + png_chunk(name, body) + good[33:]


def filtered(rows: npt.NDArray[Any]) -> bytes:
    """Rows of samples, [height, width, ...], as PNG stores them without a filter; more than 8 bits big-endian."""
    return b"".join(b"\x00" + row.tobytes() for row in rows)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """One segment of a JPEG."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def jpeg_with(good: bytes, *segments: bytes) -> bytes:
    """A JPEG with more segments behind its first marker."""
    return good[:2] + b"".join(segments) + good[2:]
