"""From the samples of a file to the colours that people see: profiles, gamma, transparency, orientation.

All of it runs after the resize, on the square that the model gets: the full picture would cost many times more.
"""

import functools
import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

from dropline.images.picture import MAX_PROFILE_BYTES, Picture

#: Converted pictures with the same profile share a transform; a transform takes up to a few megabytes.
_TRANSFORMS_KEPT = 8
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: Pillow's mode of the samples, by the colour space of a profile.
_PROFILE_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
#: A profile that moves no probe by more than this is sRGB under any name, and costs no conversion.
_SAME_COLOUR = 3
#: A profile that leaves the probes less apart than this is damaged.
_FLAT = 32
_SRGB_GAMMA = 1 / 2.2
#: Files often round 1/2.2: 0.45455 and 0.45 are the same.
_SAME_GAMMA = 0.02
#: Pixels count as seen from this alpha on, and as nearly white from this shade on.
_SEEN_ALPHA, _NEARLY_WHITE = 64, 232
#: Share of the seen pixels that must be darker than that, for a picture to be seen on white.
_DARK_SHARE = 0.01
_WHITE, _CONTRAST = (255, 255, 255), (96, 96, 96)

_Transform = ImageCms.ImageCmsTransform


def rendered(picture: Picture, side_px: int) -> Image.Image:
    """Return the picture as people see it: an RGB square of `side_px`, in sRGB, upright.

    The resize is bicubic, as in Florence-2's processor, with premultiplied alpha: the colours below transparent
    pixels have no influence. Transparent pixels become white. Where the seen pixels are all nearly white, such as
    those of a white logo, the ground is a dark grey: on white, nothing would be seen. A picture without any seen
    pixel stays white.
    """
    small = picture.image.resize((side_px, side_px), Image.Resampling.BICUBIC)
    alpha = small.getchannel("A") if small.mode in ("LA", "RGBA") else None
    rgb = _in_srgb(small, picture)
    if alpha is not None:
        rgb = _on_ground(rgb, alpha)
    turn = _UPRIGHT.get(picture.orientation)
    return rgb if turn is None else rgb.transpose(turn)


def _in_srgb(image: Image.Image, picture: Picture) -> Image.Image:
    opaque = {"LA": "L", "RGBA": "RGB"}.get(image.mode)
    samples = image.convert(opaque) if opaque else image
    if picture.profile and len(picture.profile) <= MAX_PROFILE_BYTES:
        samples = _converted(samples, picture.profile)
    elif picture.gamma and abs(picture.gamma - _SRGB_GAMMA) > _SAME_GAMMA:
        samples = samples.point(_gamma_table(picture.gamma) * len(samples.getbands()))
    return samples if samples.mode == "RGB" else samples.convert("RGB")


def _converted(samples: Image.Image, profile: bytes) -> Image.Image:
    """Apply a profile; a profile that is damaged, or of samples of another kind, is ignored."""
    found = _transform(profile)
    if found is None:
        return samples
    mode, transform = found
    if mode == "RGB" and samples.mode == "L":
        samples = samples.convert("RGB")
    if transform is None or samples.mode != mode:
        return samples
    if mode == "RGB":
        transform.apply_in_place(samples)  # a new image costs as much again
        return samples
    return transform.apply(samples)


@functools.lru_cache(maxsize=_TRANSFORMS_KEPT)
def _transform(profile: bytes) -> tuple[str, _Transform | None] | None:
    """The mode of the samples and the conversion to sRGB, None if nothing changes; None: no usable profile."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = _PROFILE_MODES.get(source.profile.xcolor_space)
        if mode is None:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        probe = _probe(mode)
        before, after = np.asarray(probe.convert("RGB"), np.int16), np.asarray(transform.apply(probe), np.int16)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    if after.max() - after.min() < _FLAT:
        return None
    if mode != "CMYK" and np.abs(after - before).max() <= _SAME_COLOUR:
        return mode, None
    return mode, transform


def _probe(mode: str) -> Image.Image:
    """Samples spread over the whole space of a mode."""
    steps = np.array([0, 32, 64, 96, 128, 160, 192, 224, 255], dtype=np.uint8)
    channels = len(Image.new(mode, (1, 1)).getbands())
    grid = np.stack(np.meshgrid(*[steps] * min(channels, 3)), axis=-1).reshape(-1, min(channels, 3))
    if channels == 4:
        grid = np.concatenate([grid, np.zeros((len(grid), 1), np.uint8)], axis=1)
    return Image.frombytes(mode, (len(grid), 1), np.ascontiguousarray(grid).tobytes())


def _gamma_table(gamma: float) -> list[int]:
    values = np.linspace(0, 1, 256) ** (1 / min(max(gamma, 0.05), 20.0))
    encoded = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    return [int(each) for each in np.rint(encoded * 255)]


def _on_ground(rgb: Image.Image, alpha: Image.Image) -> Image.Image:
    opacity = np.asarray(alpha)
    if opacity.min() == 255:
        return rgb
    ground = _CONTRAST if _vanishes_on_white(np.asarray(rgb), opacity) else _WHITE
    canvas = Image.new("RGB", rgb.size, ground)
    canvas.paste(rgb, mask=alpha)
    return canvas


def _vanishes_on_white(rgb: npt.NDArray[np.uint8], opacity: npt.NDArray[np.uint8]) -> bool:
    seen = opacity >= _SEEN_ALPHA
    count = np.count_nonzero(seen)
    dark = np.count_nonzero(rgb.min(axis=2)[seen] < _NEARLY_WHITE)
    return bool(count and dark < _DARK_SHARE * count)
