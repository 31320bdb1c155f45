"""A sample of the image corpus through the whole path: from the upload to the row."""

import pytest

from tests.acceptance.conftest import LocalCloud
from tests.corpus.expected import Case, Refused
from tests.corpus.scenes import CAPTIONS
from tests.corpus.table import CASES

pytestmark = pytest.mark.acceptance

_NAMES = (
    "jpeg_orientation_6.jpg",
    "jpeg_icc_swapped.jpg",
    "jpeg_missing_half.jpg",
    "jpeg_many_scans_large.jpg",
    "png_white_on_transparent.png",
    "png_text_40mb.png",
    "png_crlf_mangled.png",
    "gif_animated.gif",
    "bmp_32_v4_alpha_zero.bmp",
    "webp_lossy.webp",
    "avif.avif",
    "heif_irot_8.heic",
    "tiff_cmyk.tif",
    "tiff_grey16_big_endian.tif",
    "raw_nef_thumbnail.nef",
    "pnm_p6_named.jpg",
    "drawing_named.png",
    "html_inline_svg.jpg",
)
_ENDED = "SELECT * FROM captions WHERE object_name LIKE %s AND status IN ('captioned', 'failed')"


def _right(case: Case) -> tuple[object, ...]:
    """Status, caption and size of a row, or status and code."""
    if isinstance(case.right, Refused):
        return "failed", case.right.code
    return "captioned", CAPTIONS[case.right.scene], *case.right.size


def test_rows_of_the_corpus(cloud: LocalCloud, prefix: str) -> None:
    """Pictures have their captions and upright sizes; refused files have code and words at the first attempt."""
    cases = {case.name: case for case in CASES if case.name in _NAMES}
    assert len(cases) == len(_NAMES)
    with cloud.changes() as changes:
        for name, case in cases.items():
            # One content type for all: the bytes decide.
            cloud.bucket.blob(f"{prefix}{name}").upload_from_string(case.make(), content_type="image/jpeg")
        rows = {
            row["object_name"].removeprefix(prefix): row
            for row in changes.wait_for(len(cases), _ENDED, f"{prefix}%")
        }
    found = {
        name: (row["status"], row["error_code"])
        if row["status"] == "failed"
        else (row["status"], row["caption"], row["width"], row["height"])
        for name, row in rows.items()
    }
    assert found == {name: _right(case) for name, case in cases.items()}
    for name, row in rows.items():
        assert row["attempts"] == 1
        right = cases[name].right
        assert not isinstance(right, Refused) or right.words in row["error"]
