"""Colours as people see them: profiles, gamma, transparent grounds."""

import functools
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from dropline.images import colours
from tests.corpus.writers import icc
from tests.support.image_checks import assert_shows, colour_at, decoded
from tests.support.image_files import encode, png_with, scene

SWAPPED = icc.rgb(icc.SRGB[::-1])


def linear(image: Image.Image) -> Image.Image:
    """`image` with samples in proportion to light."""
    encoded = np.linspace(0, 1, 256)
    light = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return image.point([int(value) for value in np.rint(light * 255)] * len(image.getbands()))


def swap(image: Image.Image) -> Image.Image:
    red, green, blue = image.split()
    return Image.merge("RGB", (blue, green, red))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
def test_embedded_profiles(kind: str) -> None:
    """A profile with swapped channels gives the channels back; one of linear light brightens."""
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"quality": 95}
    assert_shows(encode(swap(scene()), kind, icc_profile=SWAPPED, **options), scene(), slack=6)
    assert_shows(encode(linear(scene()), kind, icc_profile=icc.rgb(gamma=1.0), **options), scene(), slack=6)


def test_grey_profiles() -> None:
    """A grey profile converts greys; a profile of colours converts a grey file, too."""
    stored, seen = linear(scene(mode="L")), scene(mode="L")
    assert_shows(encode(stored, "PNG", icc_profile=icc.grey(1.0)), seen)
    assert_shows(encode(stored, "PNG", icc_profile=icc.rgb(gamma=1.0)), seen)


@functools.cache
def srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def test_srgb_under_any_name_costs_nothing() -> None:
    """A profile that changes no probe has no transform."""
    found = colours._transform(srgb())
    assert found == ("RGB", None)
    assert_shows(encode(scene(), "PNG", icc_profile=srgb()), scene())


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"no profile",
        SWAPPED[:200],
        icc.cmyk(swapped=True),
        icc.grey(1.0),
        SWAPPED + bytes(5_000_000),
    ],
)
def test_useless_profiles_are_ignored(broken: bytes) -> None:
    """A profile that is damaged, huge, or of another kind of samples, is no reason to refuse."""
    assert_shows(encode(scene(), "WEBP", lossless=True, icc_profile=broken), scene())


def test_alpha_survives_a_profile() -> None:
    """Colours are converted below the alpha."""
    stored = swap(scene())
    stored.putalpha(Image.linear_gradient("L").resize(stored.size).point(lambda value: 255 if value > 127 else 0))
    picture = decoded(encode(stored, "PNG", icc_profile=SWAPPED))
    assert colour_at(picture, 0.5, 0.2) == (255, 255, 255)
    assert_near(colour_at(picture, 0.8, 0.55), (36, 84, 220))


def assert_near(seen: tuple[int, ...], wanted: tuple[int, ...], slack: int = 6) -> None:
    assert all(abs(a - b) <= slack for a, b in zip(seen, wanted, strict=True)), (seen, wanted)


def test_gamma_of_png() -> None:
    """gAMA counts unless a profile or sRGB stands beside it."""
    bright = png_with(encode(linear(scene()), "PNG"), b"gAMA", struct.pack(">I", 100_000))
    assert_shows(bright, scene(), slack=5)
    assert_shows(png_with(bright, b"sRGB", b"\x00"), linear(scene()))
    usual = png_with(encode(scene(), "PNG"), b"gAMA", struct.pack(">I", 45_455))
    assert_shows(usual, scene(), slack=0.5)


def logo(shade: tuple[int, int, int], share: float = 0.5) -> Image.Image:
    """A disc on a transparent ground, whose hidden colour is magenta."""
    image = Image.new("RGBA", (96, 96), (255, 0, 255, 0))
    half = 48 * share
    ImageDraw.Draw(image).ellipse((48 - half, 48 - half, 48 + half, 48 + half), fill=(*shade, 255))
    return image


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_white_logo_is_seen(kind: str) -> None:
    """On white, a white logo would vanish: the ground is a dark grey; a dark logo stays on white."""
    options = {"lossless": True} if kind == "WEBP" else {}
    white = decoded(encode(logo((250, 250, 250)), kind, **options))
    assert_near(colour_at(white, 0.5, 0.5), (250, 250, 250))
    assert max(colour_at(white, 0.05, 0.05)) < 128
    dark = decoded(encode(logo((40, 40, 40)), kind, **options))
    assert_near(colour_at(dark, 0.5, 0.5), (40, 40, 40))
    assert colour_at(dark, 0.05, 0.05) == (255, 255, 255)


def test_a_white_logo_with_a_dark_part_stays_on_white() -> None:
    """The contrasting ground is for pictures that would vanish, and for no other."""
    image = logo((250, 250, 250))
    ImageDraw.Draw(image).rectangle((40, 40, 56, 56), fill=(0, 0, 0, 255))
    assert colour_at(decoded(encode(image, "PNG")), 0.05, 0.05) == (255, 255, 255)


def test_nothing_to_see_is_white() -> None:
    """A fully transparent picture is an empty page, as in browsers: its hidden colours never show."""
    assert (decoded(encode(logo((9, 9, 9)).point(lambda value: value // 300), "PNG")).pixels == 255).all()


def test_hidden_colours_do_not_bleed() -> None:
    """Edges of a disc are mixed with the ground, and not with the colour below the transparent pixels."""
    image = logo((0, 160, 0), share=0.8).resize((384, 384), Image.Resampling.NEAREST)
    pixels = decoded(encode(image, "PNG")).pixels.astype(int)
    assert (pixels[..., 0] - pixels[..., 1] <= 8).all()


def test_transforms_are_kept() -> None:
    """Pictures with the same profile share a transform."""
    data = encode(swap(scene()), "PNG", icc_profile=SWAPPED)
    decoded(data)
    hits = colours._transform.cache_info().hits
    decoded(data)
    assert colours._transform.cache_info().hits == hits + 1


def test_cmyk_profiles() -> None:
    """A profile of inks converts CMYK, a profile of other samples does not."""
    inks = scene(mode="CMYK")
    assert_shows(encode(inks, "JPEG", quality=95, icc_profile=srgb()), scene())
    cyan, magenta, yellow, black = inks.split()
    exchanged = Image.merge("CMYK", (yellow, magenta, cyan, black))
    picture = decoded(encode(exchanged, "JPEG", quality=95, icc_profile=icc.cmyk(swapped=True)))
    red, blue = colour_at(picture, 0.2, 0.35), colour_at(picture, 0.8, 0.45)
    assert red[0] > red[2] + 80
    assert blue[2] > blue[0] + 80
