"""ICC profiles of version 2, with few entries."""

import struct

#: Chromaticities of sRGB adapted to D50, as columns X, Y, Z of red, green and blue.
SRGB = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
_D50 = (0.9642, 1.0, 0.8249)


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _xyz(*values: float) -> bytes:
    return b"XYZ \x00\x00\x00\x00" + _fixed(*values)


def _curve(gamma: float) -> bytes:
    return b"curv\x00\x00\x00\x00" + struct.pack(">IHxx", 1, round(gamma * 256))


def _description(text: bytes) -> bytes:
    return b"desc\x00\x00\x00\x00" + struct.pack(">I", len(text) + 1) + text + b"\x00" + bytes(4 + 4 + 2 + 1 + 67)


def rgb(primaries: tuple[tuple[float, ...], ...] = SRGB, gamma: float = 2.2) -> bytes:
    """A profile of three primaries and one curve."""
    tags = {b"rXYZ": _xyz(*primaries[0]), b"gXYZ": _xyz(*primaries[1]), b"bXYZ": _xyz(*primaries[2])}
    return _profile(b"RGB ", b"XYZ ", b"mntr", tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma)))


def grey(gamma: float = 2.2) -> bytes:
    """A profile of grey with one curve."""
    return _profile(b"GRAY", b"XYZ ", b"mntr", {b"kTRC": _curve(gamma)})


def cmyk(swapped: bool = False) -> bytes:
    """A profile of plain inks by a table of their 16 full mixtures; `swapped`: cyan and yellow are exchanged."""
    table = bytearray()
    for mixture in range(16):
        inks = [mixture >> 3 & 1, mixture >> 2 & 1, mixture >> 1 & 1, mixture & 1]
        inks[:3] = inks[2::-1] if swapped else inks[:3]
        table += _lab(*(0.0 if inks[3] else 1.0 - ink for ink in inks[:3]))
    identity = bytes(range(256))
    matrix = _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    lut = b"mft1\x00\x00\x00\x00" + bytes([4, 3, 2, 0]) + matrix + identity * 4 + bytes(table) + identity * 3
    return _profile(b"CMYK", b"Lab ", b"prtr", {b"A2B0": lut})


def _lab(red: float, green: float, blue: float) -> bytes:
    """Corner colours of sRGB as L*a*b* in eight bits."""
    x, y, z = (
        sum(share * column[row] for share, column in zip((red, green, blue), SRGB, strict=True)) / _D50[row]
        for row in range(3)
    )
    fx, fy, fz = (value ** (1 / 3) if value > 0.008856 else 7.787 * value + 16 / 116 for value in (x, y, z))
    wanted = ((116 * fy - 16) * 2.55, 500 * (fx - fy) + 128, 200 * (fy - fz) + 128)
    return bytes(min(255, max(0, round(value))) for value in wanted)


def _profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {
        b"desc": _description(b"corpus"),
        b"cprt": b"text\x00\x00\x00\x00none\x00",
        b"wtpt": _xyz(*_D50),
    } | tags
    at = 128 + 4 + 12 * len(tags)
    index, body = struct.pack(">I", len(tags)), b""
    for name, value in tags.items():
        index += name + struct.pack(">II", at + len(body), len(value))
        body += value + bytes(-len(value) % 4)
    header = struct.pack(">II4s4s4s12x4s24x", at + len(body), 0x02400000, kind, space, connection, b"acsp")
    header = (
        header[:8] + struct.pack(">I", 0x02400000) + kind + space + connection + bytes(12) + b"acsp" + bytes(28)
    )
    header = struct.pack(">I", at + len(body)) + bytes(4) + header[8:] + _fixed(*_D50)
    return header.ljust(128, b"\x00") + index + body
