"""TIFF: the directories decide the page and the meaning of the samples; work is bounded before decoding.

The kinds of samples, compressions and layouts are files of the corpus.
"""

import contextlib
import struct
import zlib

import numpy as np
import numpy.typing as npt
import pytest

from dropline.contract import Dimensions
from dropline.errors import ImageRefused, InvalidImage, PermanentError
from dropline.images.decoded import Decoded
from dropline.images.decoding import decode
from dropline.images.tiff import read_tiff
from dropline.images.tiff_directories import full_page, read_directory, read_layout, subdirectories, walk
from dropline.images.tiff_pages import describe
from dropline.settings import ImageSettings
from tests.corpus.writers import tiff as corpus_tiff
from tests.support.image_files import BLUE, RED, encode, halves
from tests.support.tiff_files import Page, Values, tiff

SIZE = 48
BOTH = pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True), (">", True)])


def page(samples: npt.NDArray[np.generic], photometric: int, **tags: Values) -> Page:
    """A page of one uncompressed strip; a tag is given as `t258`."""
    height, width, count = samples.shape
    own = {int(tag[1:]): value for tag, value in tags.items()}
    size: dict[int, Values] = {
        256: width,
        257: height,
        258: [samples.itemsize * 8] * count,
        259: 1,
        262: photometric,
        277: count,
    }
    return Page({**size, 278: height, **own}, [samples.tobytes()])


def ramp(width: int = 60, height: int = 40) -> npt.NDArray[np.generic]:
    """Red on the left, blue on the right."""
    return np.asarray(halves(width, height))


def decoded(data: bytes) -> Decoded:
    return decode(data, SIZE, ImageSettings())


def refused(data: bytes) -> PermanentError:
    with pytest.raises((InvalidImage, ImageRefused)) as caught:
        decoded(data)
    assert "0x" not in str(caught.value)
    return caught.value


def shows_halves(picture: Decoded) -> bool:
    left, right = picture.pixels[SIZE // 2, 5].astype(int), picture.pixels[SIZE // 2, -5].astype(int)
    return bool(np.abs(left - RED).max() < 12 and np.abs(right - BLUE).max() < 12)


@BOTH
def test_tags_are_read_in_each_byte_order_and_width(order: str, big: bool) -> None:
    """The facts of a page are the same in classic TIFF and BigTIFF, in both byte orders."""
    child = page(ramp(), 2, t254=1)
    made = Page({**page(ramp(), 2, t271=b"Maker\0", t532=(0.0, 255.0)).tags}, [ramp().tobytes()], children=[child])
    (found,) = walk(tiff(made, order=order, big=big))
    assert found.integers(258) == (8, 8, 8)
    assert found.text(271) == "Maker"
    assert found.numbers(532) == (0.0, 255.0)
    assert [each.integer(254, 0) for each in subdirectories(found)] == [1]
    described = describe(found, ImageSettings())
    assert (described.width, described.height, described.bits, described.samples) == (60, 40, 8, 3)
    assert shows_halves(decoded(tiff(made, order=order, big=big)))


def test_a_chain_that_never_ends_is_an_error() -> None:
    """The last thumbnail names the first as the next page."""
    thumbnails = [page(ramp(), 2, t254=1)] * 2
    data = bytearray(tiff(*thumbnails))
    first, last = walk(bytes(data))
    at = data.rindex(struct.pack("<I", 0), 0, len(data))
    struct.pack_into("<I", data, at, read_layout(bytes(data)).first)
    assert last.next_at == 0
    assert first.next_at > 0
    error = refused(bytes(data))
    assert (error.code, "never ends" in str(error)) == ("corrupt_image", True)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"II*\0", "truncated_image"),
        (b"II*\0\0\0\0\0", "corrupt_image"),
        (b"II*\0\x02\0\0\0", "corrupt_image"),
        (b"II*\0\xf0\xff\xff\xff", "truncated_image"),
        (b"II*\0\x08\0\0\0\0\0\0\0\0\0", "corrupt_image"),
        (b"II*\0\x08\0\0\0\xff\xff" + bytes(40), "truncated_image"),
        (b"II*\0\x08\0\0\0\xff\xff" + bytes(800_000), "image_too_complex"),
        (b"II+\0\x08\0\0\0" + b"\xff" * 8, "truncated_image"),
        (b"II+\0\x04\0\0\0" + bytes(30), "corrupt_image"),
        (b"MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, 2**63), "truncated_image"),
    ],
)
def test_senseless_directories_are_errors(data: bytes, code: str) -> None:
    """Offsets and counts beyond the file, empty directories, and thousands of entries."""
    assert refused(data).code == code


def test_counts_beyond_the_file_are_errors() -> None:
    """The values of a tag are behind the end of the file."""
    data = tiff(page(ramp(), 2))
    at = data.index(struct.pack("<HHI", 258, 3, 3))
    changed = data[: at + 4] + struct.pack("<I", 2**31) + data[at + 8 :]
    directory = read_directory(changed, read_layout(changed), read_layout(changed).first)
    with pytest.raises(InvalidImage, match="behind the end"):
        directory.raw(258, 2**40)
    assert directory.integers(258, 3) == (8, 8, 8)


@pytest.mark.parametrize(
    "reduced",
    [{254: 1}, {255: 2}, {254: 4}, {262: 4}],
    ids=["reduced", "reduced, old tag", "mask", "mask's meaning"],
)
def test_thumbnails_and_masks_are_not_the_picture(reduced: dict[int, int]) -> None:
    """The first full page counts, wherever it is."""
    first = page(np.zeros((4, 6, 1), np.uint8), 1)
    first = Page({**first.tags, **reduced}, first.segments)
    picture = decoded(tiff(first, page(ramp(), 2)))
    assert picture.dimensions == Dimensions(60, 40)
    assert shows_halves(picture)


def test_of_thumbnails_alone_the_largest_counts() -> None:
    """Some programs flag the only page as reduced."""
    small = page(np.zeros((4, 6, 1), np.uint8), 1, t254=1)
    assert shows_halves(decoded(tiff(small, page(ramp(), 2, t254=1))))


def test_a_thumbnail_with_a_damaged_full_page_is_not_the_picture() -> None:
    """The subdirectory is behind the end of the file."""
    assert refused(tiff(page(ramp(), 2, t254=1, t330=9_999_999))).code == "truncated_image"


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"t262": 32844}, "LogL brightness"),
        ({"t262": 777}, "photometric interpretation 777"),
        ({"t258": (5, 6, 5)}, "samples of different depths"),
        ({"t339": (1, 1, 3)}, "samples of different formats"),
        ({"t339": (5, 5, 5)}, "complex numbers"),
        ({"t339": (3, 3, 3)}, "8-bit floats"),
        ({"t258": (28, 28, 28)}, "28 bits per sample"),
        ({"t277": 99}, "99 samples per pixel"),
        ({"t262": 1, "t338": (0, 0)}, "3 bands of which none is named"),
        ({"t259": 34887}, "LERC compression"),
        ({"t259": 6}, "old-style JPEG"),
        ({"t279": 0, "t259": 5}, "sparse"),
    ],
)
def test_a_feature_without_decoder_is_named(tags: dict[str, Values], words: str) -> None:
    """Valid, and not decoded here: the error names the feature, and equal causes have equal texts."""
    samples = np.zeros((40, 60, 12), np.uint8) if "28" in words else ramp()
    options: dict[str, Values] = {"t277": 3, "t258": (8, 8, 8), **tags}
    error = refused(tiff(page(samples, 2, **options)))
    assert error.code == "unsupported_format"
    assert words in str(error)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"t322": 16, "t323": 16, "t256": 29_000, "t257": 3_000, "t259": 5, "t284": 2}, "tiles"),
        ({"t322": 30_000, "t323": 30_000}, "bytes in tiles"),
        ({"t278": 1, "t257": 30_000, "t258": [8] * 20, "t277": 20, "t284": 2}, "strips"),
    ],
)
def test_more_work_than_pixels_is_refused_before_decoding(tags: dict[str, Values], words: str) -> None:
    """Tiles, strips, and tiles that are much larger than the page."""
    error = refused(tiff(page(ramp(), 2, **tags)))
    assert error.code == "image_too_complex"
    assert words in str(error)


def test_a_strip_that_is_read_many_times_is_refused() -> None:
    """All strips are the same bytes: more is read than the file has."""
    tags: dict[int, Values] = {
        256: 100,
        257: 29_400,
        258: 8,
        259: 8,
        262: 1,
        277: 1,
        278: 49,
        34675: bytes(60_000),
    }
    error = refused(tiff(Page({**tags, 273: [8] * 600, 279: [59_000] * 600})))
    assert (error.code, "bytes in strips" in str(error)) == ("image_too_complex", True)


def test_scans_of_a_jpeg_inside_are_bounded() -> None:
    """A strip of JPEG has hundreds of scans."""
    jpeg = encode(halves(64, 48), "JPEG")
    scan = jpeg[jpeg.index(b"\xff\xda") : -2]
    made = Page({256: 64, 257: 48, 258: (8, 8, 8), 259: 7, 262: 6, 277: 3, 278: 48}, [jpeg[:-2] + scan * 200])
    assert refused(tiff(made)).code == "image_too_complex"


def test_damaged_data_has_a_reason_without_addresses() -> None:
    """Each compression's damage is the file's fault, with the same words for the same cause."""
    for compression, name in ((5, "LZW"), (8, "Deflate"), (34712, "JPEG 2000"), (50001, "WebP")):
        made = page(ramp(), 2, t259=compression)
        error = refused(tiff(Page(made.tags, [b"\xff\x4f\xff\x51" + bytes(500)])))
        assert error.code == "corrupt_image"
        assert name in str(error) or "code stream" in str(error)


def test_old_style_jpeg_is_a_jpeg_file() -> None:
    """The JPEG file is decoded, and its damage is the TIFF's: here, the table of codes has a wrong length."""
    tags: dict[int, Values] = {256: 64, 257: 48, 258: (8, 8, 8), 259: 6, 262: 6, 277: 3}
    jpeg = encode(halves(64, 48), "JPEG")
    assert shows_halves(decoded(tiff(Page(tags, [jpeg], (513, 514)))))
    at = jpeg.index(b"\xff\xc4") + 3
    with pytest.raises(InvalidImage, match="its JPEG data cannot be decompressed") as caught:
        read_tiff(tiff(Page(tags, [jpeg[:at] + b"\0" + jpeg[at + 1 :]], (513, 514))), SIZE, ImageSettings())
    assert caught.value.code == "corrupt_image"


def test_missing_pixels_are_a_cut_file() -> None:
    """The strip ends behind the end of the file."""
    made = page(ramp(), 2)
    data = tiff(Page({**made.tags, 273: 4_000, 279: 7_200}, []))
    assert refused(data + bytes(4_000)).code == "truncated_image"


def test_values_that_a_caption_does_not_need_are_not_read() -> None:
    """A profile, text and resolution whose values are behind the end of the file."""
    data = tiff(page(ramp(), 2, t34675=b"\1" * 40, t270=b"\1" * 40, t305=b"\1" * 40))
    for tag in (34675, 270, 305):
        at = data.index(struct.pack("<HHI", tag, 7, 40)) + 8
        data = data[:at] + struct.pack("<I", 2**31) + data[at + 4 :]
    assert shows_halves(decoded(data))


@BOTH
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("bands", [3, 4, 5])
def test_sixteen_bits_in_each_byte_order(order: str, big: bool, compression: int, bands: int) -> None:
    """RGB of 16 bits, with alpha, and with a band of no meaning: the highest 8 bits count."""
    colours = ramp().astype(np.uint16) * 256 + 255
    more = np.full((40, 60, bands - 3), 65_535)
    samples = np.concatenate([colours, more], axis=2).astype(f"{order}u2")
    extra: dict[str, Values] = {"t338": [2, 0][: bands - 3]} if bands > 3 else {}
    made = page(samples, 2, t259=compression, **extra)
    packed = zlib.compress(samples.tobytes()) if compression == 8 else samples.tobytes()
    assert shows_halves(decoded(tiff(Page(made.tags, [packed]), order=order, big=big)))


@pytest.mark.parametrize("bits", [3, 10, 12, 14])
def test_samples_of_uneven_depths_are_unpacked(bits: int) -> None:
    """A row ends at a whole byte; the highest 8 bits count, and few bits are spread to white."""
    top = 2**bits - 1
    values = np.array([[0] * 25 + [top] * 26] * 40)
    single = (values[..., None] >> np.arange(bits - 1, -1, -1) & 1).astype(np.uint8).reshape(40, -1)
    tags: dict[int, Values] = {256: 51, 257: 40, 258: bits, 259: 1, 262: 1, 277: 1, 278: 40}
    pixels = decoded(tiff(Page(tags, [np.packbits(single, axis=1).tobytes()]))).pixels
    assert (int(pixels[20, 3, 0]), int(pixels[20, -3, 0])) == (0, 255)


@pytest.mark.parametrize(("values", "shades"), [((0.0, 0.5), (0, 128)), ((-3.0, 9.0), (0, 255))])
def test_floats_between_0_and_1_keep_their_range(values: tuple[float, float], shades: tuple[int, int]) -> None:
    """Other floats are stretched from the smallest to the largest value."""
    samples = np.repeat(np.array(values, np.float32), 30)[None, :, None].repeat(40, axis=0)
    pixels = decoded(tiff(page(samples, 1, t339=3))).pixels
    assert (int(pixels[20, 3, 0]), int(pixels[20, -3, 0])) == shades


@pytest.mark.parametrize(("values", "shades"), [((1, 200), (0, 255)), ((2**30, 2**31), (64, 128))])
def test_wide_integers_that_use_their_range_keep_the_range(
    values: tuple[int, int], shades: tuple[int, int]
) -> None:
    """A small part of 32 bits is stretched, as in viewers of measurements."""
    samples = np.repeat(np.array(values, np.uint32), 30)[None, :, None].repeat(40, axis=0)
    pixels = decoded(tiff(page(samples, 1))).pixels
    assert (int(pixels[20, 3, 0]), int(pixels[20, -3, 0])) == pytest.approx(shades, abs=1)


def test_planar_pages_read_only_the_bands_that_are_seen() -> None:
    """Two bands without a meaning are damaged, and not read."""
    bands = [zlib.compress(ramp()[..., band].tobytes()) for band in range(3)]
    tags: dict[int, Values] = {
        256: 60,
        257: 40,
        258: [8] * 5,
        259: 8,
        262: 2,
        277: 5,
        278: 40,
        284: 2,
        338: (0, 0),
    }
    assert shows_halves(decoded(tiff(Page(tags, [*bands, b"\0" * 9, b"\0" * 9]))))


def test_mutated_files_end_in_a_picture_or_a_refusal() -> None:
    """Each byte of the header and the directory, set to its extremes, gives no other error."""
    data = tiff(page(ramp(12, 10), 2, t317=2, t338=0))
    first = read_layout(data).first
    for at in (*range(8), *range(first, len(data))):
        for value in (0, 1, 255):
            with contextlib.suppress(InvalidImage, ImageRefused):
                decoded(data[:at] + bytes([value]) + data[at + 1 :])


def test_full_page_is_found_without_reading_later_pages() -> None:
    """The second page is damaged; the caption needs the first."""
    data = bytearray(tiff(page(ramp(), 2), page(ramp(), 2)))
    first = next(walk(bytes(data)))
    struct.pack_into("<H", data, first.next_at, 60_000)
    assert full_page(bytes(data)).integer(256, 0) == 60
    assert shows_halves(decoded(bytes(data)))


@pytest.mark.parametrize(("kind", "no_data"), [(np.float32, -3.4028234663852886e38), (np.int16, -32768)])
def test_pixels_without_data_do_not_decide_the_range(kind: type, no_data: float) -> None:
    """Elevations around a hole: the shades are those of the elevations."""
    heights: npt.NDArray[np.generic] = np.repeat(
        np.linspace(0, 1000, 100, dtype=np.float64)[None], 80, axis=0
    ).astype(kind)
    heights[:20] = no_data
    made = corpus_tiff.page(heights, corpus_tiff.MIN_IS_BLACK, more={42113: f"{no_data}\0".encode()})
    pixels = decode(corpus_tiff.tiff(made), 32, ImageSettings()).pixels
    assert pixels[-1, 0].max() < 20
    assert pixels[-1, -1].min() > 235
