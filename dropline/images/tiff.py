"""TIFF: the page that is captioned, and the meaning of its samples, from the directory of the file."""

from typing import cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms

from dropline.contract import Dimensions
from dropline.images import refusals
from dropline.images.jpeg import read_jpeg
from dropline.images.picture import Picture
from dropline.images.raw import full_size_preview, jpeg_size, raw_photograph
from dropline.images.tiff_directories import NAME, full_page
from dropline.images.tiff_files import DECODER_ERRORS
from dropline.images.tiff_pages import (
    CIELAB,
    CMYK,
    ICCLAB,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Page,
    describe,
)
from dropline.images.tiff_ranges import TWELVE_BITS, blocks, eight_bits
from dropline.images.tiff_samples import Samples, page_samples, subsampled_ycbcr
from dropline.images.tiff_segments import JPEG, OLD_JPEG, Bytes, pixels_of_bytes, refuse_undecoded
from dropline.settings import ImageSettings

#: CCIR 601, and the range of JPEG: what a file has that states neither.
_COEFFICIENTS = (0.299, 0.587, 0.114)
_FULL_RANGE = (0.0, 255.0, 128.0, 255.0, 128.0, 255.0)


def read_tiff(data: bytes, side_px: int, limits: ImageSettings) -> Picture:
    """Decode the first page that is no thumbnail; of a raw photograph, a preview of full size.

    Args:
        data: bytes of a TIFF or BigTIFF.
        side_px: the size that the decoder of a preview may shrink to, in pixels.
        limits: most pixels, and longest side.

    Raises:
        InvalidImage: `unsupported_format` with the feature named, `corrupt_image` or `truncated_image`.
        ImageRefused: `image_too_large` or `image_too_complex`, before decoding.
    """
    if name := raw_photograph(data):
        return _preview(data, name, side_px, limits)
    page = describe(full_page(data), limits)
    dimensions = Dimensions(page.width, page.height)
    orientation = page.orientation if 1 <= page.orientation <= 8 else 1
    if page.compression == OLD_JPEG:
        image = _old_jpeg(page, side_px, limits)
        return Picture(image, dimensions, orientation, page.profile())
    refuse_undecoded(page)
    image = _picture_image(page)
    # A palette, YCbCr and L*a*b* have become RGB; a profile describes the colours of the palette, too.
    profile = None if page.photometric in (CIELAB, ICCLAB) else page.profile()
    return Picture(image, dimensions, orientation, profile)


def _preview(data: bytes, name: str, side_px: int, limits: ImageSettings) -> Picture:
    preview = full_size_preview(data)
    if preview is None:
        raise refusals.unsupported(name)
    picture = _jpeg(preview.jpeg, side_px, limits)
    orientation = preview.orientation if 1 <= preview.orientation <= 8 else 1
    return Picture(picture.image, picture.dimensions, orientation, picture.profile)


def _old_jpeg(page: Page, side_px: int, limits: ImageSettings) -> Image.Image:
    """Old-style JPEG is decoded where the page is a whole JPEG file."""
    jpeg, size = jpeg_size(page.directory)
    if size != (page.width, page.height):
        raise refusals.unsupported("a TIFF with old-style JPEG compression")
    return _jpeg(jpeg, side_px, limits).image


def _jpeg(data: bytes, side_px: int, limits: ImageSettings) -> Picture:
    try:
        return read_jpeg(data, side_px, limits)
    except DECODER_ERRORS as error:
        raise refusals.corrupt(NAME, "its JPEG data cannot be decompressed") from error


def _picture_image(page: Page) -> Image.Image:
    if page.is_subsampled:
        return _from_ycbcr(page, subsampled_ycbcr(page))
    image = pixels_of_bytes(page)
    if image is not None and _lacks_high_bits(page, image):
        image = None
    if image is not None and (ready := _as_it_is(page, image)) is not None:
        return ready
    samples = page_samples(page) if image is None else _samples_of(image, page)
    return _from_samples(page, samples)


def _lacks_high_bits(page: Page, image: Image.Image) -> bool:
    """Return True if the highest eight of sixteen bits, which Pillow keeps, may hold less than the whole range."""
    if page.bits != 16:
        return False
    highest = max(cast("tuple[int, int]", band.getextrema())[1] for band in image.split())
    return highest <= TWELVE_BITS >> 8 or page.stated_most() not in (None, 65_535)


def _as_it_is(page: Page, image: Image.Image) -> Image.Image | None:
    """The image, if Pillow's mode has the meaning of the samples."""
    if page.photometric == RGB or (page.photometric == YCBCR and page.compression == JPEG):
        return image if page.samples == 3 or (page.alpha == 3 and not page.premultiplied) else None
    if page.photometric == CMYK:
        return image
    if page.photometric in (0, 1) and page.samples == 1:
        return ImageChops.invert(image) if page.photometric == WHITE_IS_ZERO else image
    return None


def _samples_of(image: Image.Image, page: Page) -> Samples:
    return np.asarray(image).reshape(page.height, page.width, -1)


def _from_samples(page: Page, samples: Samples) -> Image.Image:
    colours = samples[..., : page.colours]
    match page.photometric:
        case photometric if photometric == PALETTE:
            image = _from_palette(page, colours)
        case photometric if photometric == YCBCR:
            image = _from_ycbcr(page, eight_bits(colours, page))
        case photometric if photometric in (CIELAB, ICCLAB):
            image = _from_lab(page, colours)
        case photometric:
            grey = eight_bits(colours, page)
            image = _image(255 - grey if photometric == WHITE_IS_ZERO else grey)
    if page.alpha is None:
        return image
    alpha = eight_bits(samples[..., -1:] if page.planar else samples[..., page.alpha : page.alpha + 1], page, True)
    return _with_alpha(page, image, alpha[..., 0])


def _image(samples: Bytes) -> Image.Image:
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[samples.shape[2]]
    height, width = samples.shape[:2]
    block = np.ascontiguousarray(samples)
    return Image.frombuffer(mode, (width, height), block, "raw", mode, 0, 1)


def _with_alpha(page: Page, image: Image.Image, alpha: Bytes) -> Image.Image:
    if image.mode == "CMYK":
        return _on_paper(page, image, alpha)
    mask = Image.fromarray(np.ascontiguousarray(alpha))
    if not page.premultiplied:
        image.putalpha(mask)
        return image
    bands = (*image.split(), mask)
    return Image.merge("La" if len(bands) == 2 else "RGBa", bands).convert("LA" if len(bands) == 2 else "RGBA")


def _on_paper(page: Page, image: Image.Image, alpha: Bytes) -> Image.Image:
    """Transparent inks: less ink, so that paper is seen."""
    if page.premultiplied or alpha.min() == 255:
        return image
    return Image.composite(image, Image.new("CMYK", image.size), Image.fromarray(np.ascontiguousarray(alpha)))


def _from_palette(page: Page, indexes: Samples) -> Image.Image:
    if page.bits > 16 or indexes.dtype.kind != "u":
        raise refusals.unsupported(f"a TIFF with a palette of {page.bits} bits")
    size = 2**page.bits
    table = np.array(page.directory.integers(320, 3 * size), np.int64)
    if len(table) < 3 * size:
        raise refusals.corrupt(NAME, "the palette is missing or too short")
    # Values of 16 bits, by the specification; some programs write 8.
    colours = (table >> 8 if table.max() > 255 else table).astype(np.uint8).reshape(3, size).T
    return _image(np.ascontiguousarray(colours)[indexes[..., 0]])


def _from_lab(page: Page, samples: Samples) -> Image.Image:
    if page.bits not in (8, 16) or samples.dtype.kind == "f":
        raise refusals.unsupported(f"a TIFF with L*a*b* colours of {page.bits} bits")
    high = (samples.view(f"u{page.bits // 8}") >> (page.bits - 8)).astype(np.uint8)
    if page.photometric == CIELAB:
        high[..., 1:] ^= 128
    image = Image.merge("LAB", [Image.fromarray(np.ascontiguousarray(high[..., band])) for band in range(3)])
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    assert converted is not None
    return converted


def _from_ycbcr(page: Page, samples: Bytes) -> Image.Image:
    coefficients = page.directory.numbers(529, 3)
    stated = page.directory.numbers(532, 6)
    reference = stated if len(stated) == 6 else _FULL_RANGE
    if len(coefficients) != 3 or min(coefficients) <= 0:
        coefficients = _COEFFICIENTS
    red, green, blue = coefficients
    out = np.empty(samples.shape, np.uint8)
    at = 0
    for block in blocks(samples):
        y, cb, cr = (_centred(block[..., band], reference, band) for band in range(3))
        r, b = y + cr * (2 - 2 * red), y + cb * (2 - 2 * blue)
        g = (y - red * r - blue * b) / green
        out[at : at + len(block)] = np.clip(np.rint(np.stack([r, g, b], axis=2)), 0, 255)
        at += len(block)
    return _image(out)


def _centred(band: Bytes, reference: tuple[float, ...], number: int) -> npt.NDArray[np.float32]:
    """Brightness from 0 to 255, or colour from -127 to 127, by the range that the file states."""
    black, white = reference[2 * number : 2 * number + 2]
    span = white - black or 1.0
    return (band.astype(np.float32) - black) * ((255.0 if number == 0 else 127.0) / span)
