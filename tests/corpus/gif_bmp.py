"""GIF and BMP files."""

from functools import partial

import numpy as np
from PIL import Image

from tests.corpus.expected import Case, Refused, Shown
from tests.corpus.jpeg import jpeg
from tests.corpus.scenes import GREY, HEIGHT, SIZE, WHITE, WIDTH, indexed, mask, pixels
from tests.corpus.writers import bmp
from tests.corpus.writers.bits import packed_rows
from tests.corpus.writers.gif import control, frame, screen
from tests.corpus.writers.png import png

_gif, _bmp = partial(Case, "GIF"), partial(Case, "BMP")
_INDEXES, _COLOURS = indexed()
_G_INDEXES, _G_COLOURS = indexed("G")
_STAR_INDEXES = indexed("star")[0]
_S, _G, _STAR = Shown("S"), Shown("G"), Shown("star", ground=None)
_BW = Shown("black star", ground=WHITE)
_LEFT = 109
_TRUNCATED = Refused("truncated_image", "cut short")
_DAMAGED = Refused("corrupt_image", "damaged")


def _animation(frames: int) -> bytes:
    first = screen(*SIZE, _COLOURS) + control() + frame(_INDEXES)
    return first + (control(delay=5) + frame(np.zeros((2, 2), np.uint8))) * frames + b";"


def _partial_frame(version: bytes = b"87a") -> bytes:
    """The frame covers the left two thirds; the index 0 of the rest is black in the palette, and transparent."""
    colours = [(0, 0, 0), *_COLOURS]
    part = (_INDEXES + 1)[:, :_LEFT]
    return screen(*SIZE, colours, version) + frame(part) + b";"


def _partial_reference() -> Image.Image:
    """The colour of the frame's edge where the screen has no frame: white would be a bar."""
    right = pixels().copy()
    right[:, _LEFT:] = right[0, 0]
    return Image.fromarray(right)


def _offset_frame() -> bytes:
    """A frame inside the screen: white above the frame and left of the frame."""
    indexes, colours = indexed("black star", WHITE)
    return screen(*SIZE, [(0, 200, 0), *colours]) + frame((indexes + 1)[10:, 10:], 10, 10) + b";"


def _empty_start(frames: int, rest: bytes) -> bytes:
    """Transparent frames of one pixel before `rest`."""
    empty = control(transparent=0, disposal=2) + frame(np.zeros((1, 1), np.uint8))
    return screen(*SIZE, _COLOURS) + empty * frames + control() + rest


# fmt: off
GIF_CASES = (
    _gif("gif_empty_start.gif", "a transparent first frame of one pixel: the next frame",
         lambda: _empty_start(1, frame(_INDEXES) + b";"), _S),
    _gif("gif_empty_start_50.gif", "50 transparent frames of one pixel: the next frame",
         lambda: _empty_start(50, frame(_INDEXES) + b";"), _S),
    _gif("gif_empty_start_damaged.gif", "a transparent frame, and a damaged one: white",
         lambda: _empty_start(1, frame(_INDEXES)[:500]),
         Shown("S", reference=lambda: Image.new("RGB", SIZE, "white"))),
    _gif("gif_89a.gif", "89a", lambda: screen(*SIZE, _COLOURS) + frame(_INDEXES) + b";", _S),
    _gif("gif_87a.gif", "87a", lambda: screen(*SIZE, _COLOURS, b"87a") + frame(_INDEXES) + b";", _S),
    _gif("gif_interlaced.gif", "interlaced",
         lambda: screen(*SIZE, _COLOURS) + frame(_INDEXES, interlaced=True) + b";", _S),
    _gif("gif_local_palette.gif", "a palette of the frame",
         lambda: screen(*SIZE) + frame(_INDEXES, colours=_COLOURS) + b";", _S),
    _gif("gif_animated.gif", "an animation: the first frame", lambda: _animation(3), _S),
    _gif("gif_many_frames.gif", "5,000 frames: the first", lambda: _animation(5000), _S),
    _gif("gif_transparent.gif", "white on transparent: on a contrasting ground",
         lambda: screen(*SIZE, [GREY, WHITE]) + control(0) + frame(_STAR_INDEXES) + b";", _STAR),
    _gif("gif_transparent_black.gif", "black on transparent: on white",
         lambda: screen(*SIZE, [(200, 0, 0), (18, 18, 18)]) + control(0) + frame(_STAR_INDEXES) + b";", _BW),
    _gif("gif_all_transparent.gif", "nothing but transparent pixels: white",
         lambda: screen(*SIZE, [GREY, WHITE]) + control(0) + frame(np.zeros_like(_STAR_INDEXES)) + b";",
         Shown("nothing", ground=WHITE)),
    _gif("gif_partial_frame_87a.gif", "a first frame smaller than the screen: the rest has its edge's colour",
         _partial_frame, Shown("S without its square", reference=_partial_reference)),
    _gif("gif_partial_frame_89a.gif", "a first frame smaller than the screen, 89a",
         lambda: _partial_frame(b"89a"), Shown("S without its square", reference=_partial_reference)),
    _gif("gif_offset_frame.gif", "a first frame inside the screen", _offset_frame, _BW),
    _gif("gif_background_index.gif", "a background colour, which browsers ignore",
         lambda: (screen(*SIZE, [WHITE, (18, 18, 18), (200, 0, 0)],
         background=2) + control(0) + frame(_STAR_INDEXES) + b";"),
         _BW),
    _gif("gif_zero_screen.gif", "a screen of zero by zero: the size of the frame",
         lambda: screen(0, 0, _COLOURS) + frame(_INDEXES) + b";", _S),
    _gif("gif_frame_beyond_screen.gif", "a frame larger than the screen",
         lambda: screen(10, 10, _COLOURS) + frame(_INDEXES) + b";", _S),
    _gif("gif_no_end.gif", "all pixels, without the end byte",
         lambda: screen(*SIZE, _COLOURS) + frame(_INDEXES), _S),
    _gif("gif_trailing_bytes.gif", "bytes behind the end byte", lambda: _animation(0) + bytes(999), _S),
    _gif("gif_comment.gif", "a comment of 60 KB",
         lambda: (screen(*SIZE,
         _COLOURS) + b"\x21\xfe" + (b"\xff" + b"c" * 255) * 240 + b"\0" + frame(_INDEXES) + b";"),
         _S),
    _gif("gif_second_frame_cut.gif", "the second frame is missing its end",
         lambda: screen(*SIZE, _COLOURS) + frame(_INDEXES) + frame(_G_INDEXES)[:900], _S),
    _gif("gif_missing_half.gif", "the second half is missing",
         lambda: _animation(0)[: len(_animation(0)) // 2], _TRUNCATED),
    _gif("gif_no_frame.gif", "no frame at all", lambda: screen(*SIZE, _COLOURS) + b";", _DAMAGED),
    _gif("gif_header_only.gif", "six bytes", lambda: b"GIF89a", _TRUNCATED),
    _gif("gif_bad_code.gif", "a code outside the table",
         lambda: screen(*SIZE, _COLOURS) + frame(_INDEXES)[:10] + b"\x08\x04\xff\xff\xff\xff\x00;", _DAMAGED),
    _gif("gif_no_palette.gif", "no palette at all", lambda: screen(*SIZE) + frame(_INDEXES) + b";", _DAMAGED),
    _gif("gif_bomb.gif", "a frame of 60,000 by 60,000 pixels",
         lambda: screen(60_000, 60_000, _COLOURS) + frame(_INDEXES) + b";",
         Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    _gif("gif_frame_bomb.gif", "a frame of 60,000 by 60,000 pixels on a small screen",
         lambda: screen(*SIZE, _COLOURS) + b",\0\0\0\0\x60\xea\x60\xea\0\x08\x02\0\x01\0;",
         Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
)
# fmt: on


def _rows24(top_down: bool = False) -> bytes:
    return bmp.rows([row.tobytes() for row in pixels()[..., ::-1]], top_down)


def _indexed_rows(depth: int) -> bytes:
    return bmp.rows(packed_rows(_INDEXES, depth))


def _bgra(alpha: int) -> bytes:
    samples = np.concatenate([pixels()[..., ::-1], np.full((HEIGHT, WIDTH, 1), alpha, np.uint8)], axis=2)
    return bmp.rows([row.tobytes() for row in samples])


def _words(bits: tuple[int, ...], shifts: tuple[int, ...], kind: str = "<u2") -> bytes:
    return bmp.rows(bmp.words(pixels(), bits, shifts, kind))


def _star_alpha() -> bytes:
    samples = np.concatenate([np.full((HEIGHT, WIDTH, 3), 18, np.uint8), mask()[..., None]], axis=2)
    return bmp.rows([row.tobytes() for row in samples])


_MASKS = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
_TEXT = b"BMW 320d, bought 2019. See photo in the other folder.\n" * 3

# fmt: off
BMP_CASES = (
    _bmp("bmp_24.bmp", "24 bits", lambda: bmp.bmp(_rows24(), SIZE, 24), _S),
    _bmp("bmp_24_top_down.bmp", "24 bits, first row first",
         lambda: bmp.bmp(_rows24(top_down=True), SIZE, 24, top_down=True), _S),
    _bmp("bmp_24_os2.bmp", "24 bits, OS/2", lambda: bmp.bmp(_rows24(), SIZE, 24, header=12), _S),
    _bmp("bmp_24_os2_v2.bmp", "24 bits, OS/2 version 2", lambda: bmp.bmp(_rows24(), SIZE, 24, header=64), _S),
    _bmp("bmp_24_v4.bmp", "24 bits, version 4", lambda: bmp.bmp(_rows24(), SIZE, 24, header=108), _S),
    _bmp("bmp_24_v5.bmp", "24 bits, version 5", lambda: bmp.bmp(_rows24(), SIZE, 24, header=124), _S),
    _bmp("bmp_1.bmp", "1 bit",
         lambda: bmp.bmp(bmp.rows(packed_rows(_STAR_INDEXES, 1)), SIZE, 1, palette=[WHITE, (18, 18, 18)]), _BW),
    _bmp("bmp_4.bmp", "4 bits", lambda: bmp.bmp(_indexed_rows(4), SIZE, 4, palette=_COLOURS), _S),
    _bmp("bmp_8.bmp", "8 bits", lambda: bmp.bmp(_indexed_rows(8), SIZE, 8, palette=_COLOURS), _S),
    _bmp("bmp_8_os2.bmp", "8 bits, OS/2",
         lambda: bmp.bmp(_indexed_rows(8), SIZE, 8, header=12, palette=[*_COLOURS, *[(0, 0, 0)] * 252]), _S),
    _bmp("bmp_rle8.bmp", "8 bits, run lengths",
         lambda: bmp.bmp(bmp.rle8(_INDEXES), SIZE, 8, compression=bmp.RLE8, palette=_COLOURS), _S),
    _bmp("bmp_rle4.bmp", "4 bits, run lengths",
         lambda: bmp.bmp(bmp.rle4(_INDEXES), SIZE, 4, compression=bmp.RLE4, palette=_COLOURS), _S),
    _bmp("bmp_16_555.bmp", "16 bits, 5-5-5", lambda: bmp.bmp(_words((5, 5, 5), (10, 5, 0)), SIZE, 16), _S),
    _bmp("bmp_16_565.bmp", "16 bits, 5-6-5",
         lambda: bmp.bmp(_words((5, 6, 5), (11, 5, 0)), SIZE, 16, compression=bmp.BITFIELDS, masks=(0xF800,
         0x7E0, 0x1F)),
         _S),
    _bmp("bmp_32.bmp", "32 bits, a fourth byte without meaning", lambda: bmp.bmp(_bgra(0), SIZE, 32), _S),
    _bmp("bmp_32_bitfields.bmp", "32 bits, red in the low byte",
         lambda: bmp.bmp(_words((8, 8, 8), (0, 8, 16), "<u4"), SIZE, 32, compression=bmp.BITFIELDS,
         masks=(0xFF, 0xFF00, 0xFF0000)),
         _S),
    _bmp("bmp_32_v4_alpha.bmp", "32 bits, version 4 with alpha: on white",
         lambda: bmp.bmp(_star_alpha(), SIZE, 32, header=108, compression=bmp.BITFIELDS, masks=_MASKS), _BW),
    _bmp("bmp_32_v5_alpha_opaque.bmp", "32 bits, version 5, opaque",
         lambda: bmp.bmp(_bgra(255), SIZE, 32, header=124, compression=bmp.BITFIELDS, masks=_MASKS), _S),
    _bmp("bmp_32_v4_alpha_zero.bmp", "version 4 with an alpha of zero everywhere: not believed",
         lambda: bmp.bmp(_bgra(0), SIZE, 32, header=108, compression=bmp.BITFIELDS, masks=_MASKS), _S),
    _bmp("bmp_32_v5_alpha_zero.bmp", "version 5 with an alpha of zero everywhere: not believed",
         lambda: bmp.bmp(_bgra(0), SIZE, 32, header=124, compression=bmp.BITFIELDS, masks=_MASKS), _S),
    _bmp("bmp_trailing_bytes.bmp", "bytes behind the pixels",
         lambda: bmp.bmp(_rows24(), SIZE, 24) + bytes(99), _S),
    _bmp("bmp_wrong_file_size.bmp", "a wrong file size in the header, which viewers ignore",
         lambda: b"BM\xff\xff\xff\x7f" + bmp.bmp(_rows24(), SIZE, 24)[6:], _S),
    _bmp("bmp_missing_half.bmp", "the second half is missing",
         lambda: bmp.bmp(_rows24(), SIZE, 24)[:28_000], _TRUNCATED),
    _bmp("bmp_header_only.bmp", "a header without pixels", lambda: bmp.bmp(_rows24(), SIZE, 24)[:54], _TRUNCATED),
    _bmp("bmp_too_large.bmp", "a header of 60,000 by 60,000 pixels",
         lambda: bmp.bmp(b"", (60_000, 60_000), 24), Refused("image_too_large", "DROPLINE_IMAGES__MAX_PIXELS")),
    _bmp("bmp_zero_width.bmp", "a width of zero", lambda: bmp.bmp(b"", (0, 9), 24), _DAMAGED),
    _bmp("bmp_png_inside.bmp", "a PNG inside",
         lambda: bmp.bmp(png(pixels()), SIZE, 0, compression=bmp.PNG), _S),
    _bmp("bmp_jpeg_inside.bmp", "a JPEG inside",
         lambda: bmp.bmp(jpeg(), SIZE, 0, compression=bmp.JPEG), _S),
    _bmp("bmp_text.bmp", "text that begins with BM", lambda: _TEXT, Refused("not_an_image", "text")),
    _bmp("bmp_array_os2.bmp", "an array of OS/2 bitmaps",
         lambda: b"BA" + bytes(12) + bmp.bmp(_rows24(), SIZE, 24), Refused("unsupported_format", "OS/2")),
)
# fmt: on
CASES = GIF_CASES + BMP_CASES
