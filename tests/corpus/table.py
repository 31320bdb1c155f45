"""All files of the corpus with the right results."""

from tests.corpus import gif_bmp, heif, jpeg, no_images, old_formats, others, png, raw, tiff, tiff_samples, webp
from tests.corpus.expected import Case

CASES: tuple[Case, ...] = (
    *jpeg.CASES,
    *png.CASES,
    *gif_bmp.CASES,
    *webp.CASES,
    *heif.CASES,
    *tiff.CASES,
    *tiff_samples.CASES,
    *raw.CASES,
    *others.CASES,
    *old_formats.CASES,
    *no_images.CASES,
)
