"""Raw photographs: recognised by name; a preview counts only in full size."""

import pytest
from PIL import Image

from dropline.errors import InvalidImage
from dropline.images.decoding import decode
from dropline.images.raw import Preview, full_size_preview, raw_photograph
from dropline.settings import ImageSettings
from tests.support.image_files import encode, halves
from tests.support.tiff_files import Page, Values, tiff

SENSOR = bytes(range(240)) * 320
THUMBNAIL = halves(64, 48)


def sensor(**tags: Values) -> Page:
    """A page of 320 x 240 samples behind a colour filter array."""
    numbered = {int(tag[1:]): value for tag, value in tags.items()}
    return Page({254: 0, 256: 320, 257: 240, 258: 8, 259: 1, 262: 32803, 277: 1, 278: 240, **numbered}, [SENSOR])


def rgb(image: Image.Image, reduced: int, children: tuple[Page, ...] = (), **tags: Values) -> Page:
    """A page of plain RGB."""
    numbered = {int(tag[1:]): value for tag, value in tags.items()}
    size: dict[int, Values] = {
        254: reduced,
        256: image.width,
        257: image.height,
        258: (8, 8, 8),
        277: 3,
        278: image.height,
    }
    return Page({**size, 259: 1, 262: 2, **numbered}, [image.tobytes()], children=children)


def jpeg_page(image: Image.Image, old_tags: bool, **tags: Values) -> Page:
    """A page with a JPEG preview: by the tags of old-style JPEG, or as the page's only strip."""
    numbered = {int(tag[1:]): value for tag, value in tags.items()}
    where = (513, 514) if old_tags else (273, 279)
    return Page({254: 1, 256: image.width, 257: image.height, 259: 6, **numbered}, [encode(image, "JPEG")], where)


@pytest.mark.parametrize(
    ("head", "suffix"),
    [
        (b"II*\0\x10\0\0\0CR\x02\0", "CR2"),
        (b"IIRO\x08\0\0\0", "ORF"),
        (b"IIRS\x08\0\0\0", "ORF"),
        (b"MMOR\0\0\0\x08", "ORF"),
        (b"IIU\0\x18\0\0\0", "RW2"),
        (b"FUJIFILMCCD-RAW 0201", "RAF"),
        (b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom", "CR3"),
        (b"II\x1a\0\0\0HEAPCCDR\x02\0", "CRW"),
        (b"\0MRM\0\0\0\0", "MRW"),
        (b"FOVb\0\0\x03\0", "X3F"),
        (b"II*\0\x08\0\0\0IIII", "IIQ"),
    ],
)
def test_makers_own_formats_are_named(head: bytes, suffix: str) -> None:
    """A raw photograph of each maker's own format is valid, not decoded, and named."""
    with pytest.raises(InvalidImage, match=rf"a raw photograph \({suffix}\)") as caught:
        decode(head + bytes(200), 96, ImageSettings())
    assert caught.value.code == "unsupported_format"


@pytest.mark.parametrize(
    ("make", "suffix"),
    [
        (b"NIKON CORPORATION\0", "NEF"),
        (b"Sony\0", "ARW"),
        (b"PENTAX Corporation\0", "PEF"),
        (b"RICOH IMAGING COMPANY, LTD.\0", "PEF"),
        (b"SAMSUNG\0", "SRW"),
        (b"Hasselblad\0", "3FR"),
        (b"nobody\0", "TIFF with the samples of a sensor"),
    ],
)
@pytest.mark.parametrize("order", ["<", ">"])
def test_the_maker_names_a_tiff_with_sensor_samples(make: bytes, suffix: str, order: str) -> None:
    """A thumbnail in front and the sensor's samples in a subdirectory: the file is a raw photograph."""
    data = tiff(rgb(THUMBNAIL, 1, (sensor(),), t271=make), order=order)
    assert raw_photograph(data) == f"a raw photograph ({suffix})"


@pytest.mark.parametrize(
    "page",
    [
        sensor(t50706=(1, 4, 0, 0), t271=b"NIKON\0"),
        sensor(t262=34892, t50706=(1, 4, 0, 0)),
        rgb(THUMBNAIL, 1, (sensor(),), t50706=(1, 4, 0, 0)),
    ],
)
def test_a_dng_is_named_whatever_the_maker(page: Page) -> None:
    """A colour filter array or linear samples with a DNG version: a DNG."""
    assert raw_photograph(tiff(page)) == "a raw photograph (DNG)"
    assert raw_photograph(tiff(page, big=True)) == "a raw photograph (DNG)"


def test_sensor_samples_in_a_later_directory_are_found() -> None:
    """Pentax stores the sensor's samples first, Canon last."""
    assert raw_photograph(tiff(rgb(THUMBNAIL, 1), rgb(THUMBNAIL, 1), rgb(THUMBNAIL, 1), sensor())) is not None


def test_a_finished_picture_by_a_camera_maker_is_a_tiff() -> None:
    """The maker alone does not decide."""
    assert raw_photograph(tiff(rgb(halves(), 0, t271=b"NIKON CORPORATION\0"))) is None
    assert raw_photograph(tiff(rgb(halves(), 0, t50706=(1, 4, 0, 0)))) is None


@pytest.mark.parametrize(
    "data", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\0", b"II+\0" + bytes(60)]
)
def test_damaged_tiffs_are_no_raw_photographs(data: bytes) -> None:
    """Damage is reported by the decoder, with a reason; no error here."""
    assert raw_photograph(data) is None
    assert full_size_preview(data) is None


@pytest.mark.parametrize("old_tags", [True, False])
def test_a_preview_of_full_size_is_found(old_tags: bool) -> None:
    """The camera's own picture lacks the sensor's border, and is upright by the photograph's orientation."""
    picture = halves(312, 232)
    small = jpeg_page(halves(160, 120), old_tags)
    page = rgb(THUMBNAIL, 1, (small, jpeg_page(picture, old_tags), sensor()), t271=b"NIKON\0", t274=6)
    assert full_size_preview(tiff(page)) == Preview(encode(picture, "JPEG"), 6)


def test_smaller_previews_are_no_pictures() -> None:
    """Half the size is a thumbnail; so is a preview with a side cut off."""
    for size in ((160, 120), (320, 180)):
        page = rgb(THUMBNAIL, 1, (jpeg_page(halves(*size), True), sensor()), t271=b"NIKON\0")
        assert full_size_preview(tiff(page)) is None
