"""How the samples of a TIFF page are stored, and what the samples mean. Without pixels."""

from dataclasses import dataclass, field, replace

from dropline.errors import InvalidImage
from dropline.images import refusals
from dropline.images.tiff_directories import NAME, Directory
from dropline.settings import ImageSettings

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIELAB, ICCLAB = 0, 1, 2, 3, 5, 6, 8, 9
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
#: Samples that carry the colour, by photometric interpretation; further samples are alpha or unspecified.
COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}
_OTHER_MEANINGS = {
    10: "ITU L*a*b* colours",
    32803: "the samples of a sensor",
    32844: "LogL brightness",
    32845: "LogLuv colours",
    34892: "the samples of a sensor",
    51177: "a depth map",
}
_PREMULTIPLIED, _STRAIGHT, _COREL_ALPHA = 1, 2, 999
_MOST_SAMPLES = 32
#: 16 x 16 tiles of the largest accepted picture are 390,625.
_MOST_SEGMENTS = 500_000
#: Decoded bytes per accepted pixel: RGB and alpha as 32-bit floats.
_MOST_BYTES_PER_PIXEL = 16
_MOST_PROFILE_BYTES = 4_194_304


@dataclass(frozen=True, slots=True)
class Page:
    """A page: size, the meaning of the samples, and the segments (strips or tiles) with the samples."""

    directory: Directory = field(repr=False)
    width: int
    height: int
    #: Bits of each sample.
    bits: int
    #: UNSIGNED, SIGNED or FLOAT.
    sample_format: int
    photometric: int
    compression: int
    #: 1: none, 2: differences of samples, 3: differences of the bytes of floats.
    predictor: int
    #: True if each sample has segments of its own.
    planar: bool
    samples: int
    #: Position of the alpha sample in a pixel; None: opaque.
    alpha: int | None
    premultiplied: bool
    #: True if the lowest bit of a byte comes first.
    bits_reversed: bool
    orientation: int
    tiled: bool
    segment_width: int
    segment_height: int
    #: Columns and rows of pixels that share a colour (YCbCr).
    subsampling: tuple[int, int]
    #: Of each segment, in bytes; all segments of the first plane first.
    offsets: tuple[int, ...] = field(repr=False)
    counts: tuple[int, ...] = field(repr=False)

    @property
    def colours(self) -> int:
        """Samples that carry the colour."""
        return COLOURS[self.photometric]

    @property
    def stored_samples(self) -> int:
        """Samples per pixel of a segment."""
        return 1 if self.planar else self.samples

    @property
    def is_subsampled(self) -> bool:
        """True if pixels share colours in the stored bytes; a JPEG decoder resolves that by itself."""
        return self.photometric == YCBCR and self.compression != 7 and self.subsampling != (1, 1)

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored row of a segment; of a subsampled page, of the blocks of a few rows."""
        if self.is_subsampled:
            across, down = self.subsampling
            return -(-self.segment_width // across) * (across * down + 2)
        return (self.segment_width * self.stored_samples * self.bits + 7) // 8

    @property
    def rows_per_stored_row(self) -> int:
        """Rows of pixels in a stored row."""
        return self.subsampling[1] if self.is_subsampled else 1

    @property
    def segment_rows(self) -> int:
        """Stored rows of a segment."""
        return -(-self.segment_height // self.rows_per_stored_row)

    @property
    def plane_rows(self) -> int:
        """Stored rows of all segments of a plane, one below the other; the last strip may be shorter."""
        if self.tiled:
            return self.across * self.down * self.segment_rows
        return -(-self.height // self.rows_per_stored_row)

    @property
    def across(self) -> int:
        """Segments side by side."""
        return -(-self.width // self.segment_width)

    @property
    def down(self) -> int:
        """Segments one below the other."""
        return -(-self.height // self.segment_height)

    def plane(self, number: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Offsets and byte counts of the segments of a plane."""
        size = self.across * self.down
        return self.offsets[number * size : (number + 1) * size], self.counts[number * size : (number + 1) * size]

    def no_data(self) -> float | None:
        """The value of pixels without data (GDAL's tag); None without one."""
        try:
            return float(self.directory.text(42113))
        except (InvalidImage, ValueError):
            return None

    def stated_most(self) -> int | None:
        """The largest value that the file states for its samples (MaxSampleValue); None without one."""
        try:
            return max(self.directory.integers(281, self.stored_samples), default=None)
        except InvalidImage:
            return None

    def profile(self) -> bytes | None:
        """The embedded ICC profile; None without one, or for a damaged or oversized one."""
        try:
            return self.directory.raw(34675, _MOST_PROFILE_BYTES) or None
        except InvalidImage:
            return None


def describe(directory: Directory, limits: ImageSettings) -> Page:
    """Return how the samples of a page are stored; each bound is checked before the next value is read.

    Raises:
        InvalidImage: `unsupported_format` with the feature named, `corrupt_image` or `truncated_image`.
        ImageRefused: `image_too_large` or `image_too_complex`.
    """
    width, height = directory.integer(256, 0), directory.integer(257, 0)
    if width < 1 or height < 1:
        raise refusals.corrupt(NAME, "width or height is missing")
    refusals.check_size(width, height, limits)
    photometric = _photometric(directory)
    samples, bits = _samples(directory)
    planar = directory.integer(284, 1) == 2 and samples > 1
    alpha, premultiplied = _alpha(directory, photometric, samples)
    segment_width, segment_height, tiled = _segment_size(directory, width, height)
    page = Page(
        directory=directory, width=width, height=height, bits=bits, samples=samples, photometric=photometric,
        sample_format=_sample_format(directory), compression=directory.integer(259, 1),
        predictor=directory.integer(317, 1), planar=planar, alpha=alpha, premultiplied=premultiplied,
        bits_reversed=directory.integer(266, 1) == 2, orientation=directory.integer(274, 1), tiled=tiled,
        segment_width=segment_width, segment_height=segment_height, subsampling=_subsampling(directory),
        offsets=(), counts=(),
    )  # fmt: skip
    _refuse_much_work(page, limits)
    # Old-style JPEG may have a JPEG file in the place of strips.
    return page if page.compression == 6 else _with_segments(page)


def _photometric(directory: Directory) -> int:
    found = directory.integer(262, _unstated_photometric(directory))
    if found in COLOURS:
        return found
    raise refusals.unsupported(f"a TIFF with {_OTHER_MEANINGS.get(found, f'photometric interpretation {found}')}")


def _unstated_photometric(directory: Directory) -> int:
    """As libtiff decides without the tag."""
    if directory.integer(277, 1) >= 3:
        return RGB
    return WHITE_IS_ZERO if directory.integer(259, 1) in (2, 3, 4) else BLACK_IS_ZERO


def _samples(directory: Directory) -> tuple[int, int]:
    """Samples per pixel, and bits per sample."""
    depths = directory.integers(258, _MOST_SAMPLES) or (1,)
    samples = directory.integer(277, len(depths))
    if not 1 <= samples <= _MOST_SAMPLES:
        raise refusals.unsupported(f"a TIFF with {samples} samples per pixel")
    if len(set(depths[:samples])) != 1:
        raise refusals.unsupported("a TIFF with samples of different depths")
    if not 1 <= depths[0] <= 64:
        raise refusals.corrupt(NAME, f"{depths[0]} bits per sample")
    return samples, depths[0]


def _sample_format(directory: Directory) -> int:
    formats = set(directory.integers(339, _MOST_SAMPLES)) or {UNSIGNED}
    if len(formats) > 1:
        raise refusals.unsupported("a TIFF with samples of different formats")
    found = formats.pop()
    if found in (5, 6):
        raise refusals.unsupported("a TIFF of complex numbers")
    # 4 is "undefined", which viewers show as unsigned.
    return found if found in (SIGNED, FLOAT) else UNSIGNED


def _alpha(directory: Directory, photometric: int, samples: int) -> tuple[int | None, bool]:
    """Position of the alpha sample, and whether colours are premultiplied.

    Samples without a stated meaning are no alpha, and are left out. Grey with several of them is refused: the file
    does not say which of the bands are red, green and blue.
    """
    colours = COLOURS[photometric]
    if samples < colours:
        raise refusals.corrupt(NAME, f"{samples} samples per pixel for {colours} colours")
    extra = directory.integers(338, _MOST_SAMPLES)[: samples - colours]
    for position, meaning in enumerate(extra, colours):
        if meaning in (_PREMULTIPLIED, _STRAIGHT, _COREL_ALPHA):
            return position, meaning == _PREMULTIPLIED
    if colours == 1 and samples > 2:
        raise refusals.unsupported(f"a TIFF with {samples} bands of which none is named red, green or blue")
    # Older programs write RGB and alpha without the tag.
    return (colours, False) if photometric == RGB and samples == 4 and not extra else (None, False)


def _segment_size(directory: Directory, width: int, height: int) -> tuple[int, int, bool]:
    if 322 in directory.entries and 323 in directory.entries:
        across, down = directory.integer(322, 0), directory.integer(323, 0)
        if across < 1 or down < 1:
            raise refusals.corrupt(NAME, "tiles without a size")
        return across, down, True
    rows = directory.integer(278, height)
    return width, min(rows, height) if rows > 0 else height, False


def _subsampling(directory: Directory) -> tuple[int, int]:
    values = directory.integers(530, 2)
    across, down = values if len(values) == 2 else (2, 2)
    if across not in (1, 2, 4) or down not in (1, 2, 4):
        raise refusals.corrupt(NAME, "a senseless subsampling of colours")
    return across, down


def _refuse_much_work(page: Page, limits: ImageSettings) -> None:
    kind = "tiles" if page.tiled else "strips"
    segments = page.across * page.down * (page.samples if page.planar else 1)
    if segments > _MOST_SEGMENTS:
        raise refusals.too_complex(NAME, f"{segments:,} {kind}", f"{_MOST_SEGMENTS:,}")
    most_bytes = _MOST_BYTES_PER_PIXEL * limits.max_pixels
    size = page.plane_rows * page.row_bytes * (page.samples if page.planar else 1)
    if size > most_bytes:
        raise refusals.too_complex(NAME, f"{size:,} bytes in {kind}", f"{most_bytes:,} bytes")


def _with_segments(page: Page) -> Page:
    directory = page.directory
    segments = page.across * page.down * (page.samples if page.planar else 1)
    offsets = directory.integers(324, segments) or directory.integers(273, segments)
    counts = directory.integers(325, segments) or directory.integers(279, segments)
    if len(offsets) < segments:
        raise refusals.corrupt(NAME, f"{segments:,} strips or tiles are due, and {len(offsets):,} are listed")
    if page.compression == 1:
        counts = _uncompressed_counts(page, segments)
    elif len(counts) < segments:
        counts = (len(directory.data) - offsets[0],) if segments == 1 else ()
    return replace(page, offsets=offsets, counts=_checked_counts(directory, offsets, counts))


def _uncompressed_counts(page: Page, segments: int) -> tuple[int, ...]:
    # The size follows from the pixels; programs write wrong byte counts.
    full = page.segment_rows * page.row_bytes
    if page.tiled:
        return (full,) * segments
    last = page.plane_rows * page.row_bytes - full * (page.down - 1)
    return ((full,) * (page.down - 1) + (last,)) * (segments // page.down)


def _checked_counts(directory: Directory, offsets: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, ...]:
    size = len(directory.data)
    if len(counts) < len(offsets):
        raise refusals.corrupt(NAME, "the byte counts of strips or tiles are missing")
    if not all(offsets) or not all(counts):
        raise refusals.unsupported("a sparse TIFF, which has strips or tiles without bytes")
    if min(offsets) < 0 or min(counts) < 0:
        raise refusals.corrupt(NAME, "a strip or tile with a negative size")
    if any(at + count > size for at, count in zip(offsets, counts, strict=True)):
        raise refusals.truncated(NAME, "a strip or tile is behind the end of the file")
    if sum(counts) > 2 * size:
        raise refusals.too_complex(NAME, f"{sum(counts):,} bytes in strips or tiles", f"{2 * size:,} bytes")
    return counts
