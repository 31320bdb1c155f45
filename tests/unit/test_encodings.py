"""Content encodings: each spelling and each wrong label, many members, damage, bombs."""

import gzip
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropline.contract import ObjectVersion
from dropline.errors import DroplineError, ImageRefused, InvalidImage, PermanentError
from dropline.storage.encodings import MAX_MEMBERS, Content, decode_content
from tests.support.captioning import PNG

VERSION = ObjectVersion("drops", "cat.png", 1)
LIMIT = 100_000
PACKED = gzip.compress(PNG)


def raw_deflate(data: bytes) -> bytes:
    return zlib.compress(data, wbits=-zlib.MAX_WBITS)


def decoded(stored: bytes, encoding: str | None) -> Content:
    return decode_content(stored, encoding, VERSION, LIMIT)


def refusal(stored: bytes, encoding: str) -> DroplineError:
    with pytest.raises(PermanentError) as caught:
        decoded(stored, encoding)
    return caught.value


@pytest.mark.parametrize(
    "encoding",
    ["gzip", "x-gzip", "GZIP", " X-GZip ", "gzip,", '"gzip"', "gzip;q=1.0", "application/gzip", "deflate"],
)
def test_every_spelling_of_gzip_is_undone(encoding: str) -> None:
    """The spelling of the label does not matter, since the bytes have a signature."""
    assert decoded(PACKED, encoding) == Content(PNG)


@pytest.mark.parametrize("tail", [b"", b"\0" * 512, b"trailing", b"\x1f", b"\x1f\x8b", b"\0\0trailing"])
def test_bytes_after_the_last_member_are_ignored(tail: bytes) -> None:
    """Padding and foreign bytes after the compressed image do not reach the image."""
    assert decoded(PACKED + tail, "gzip") == Content(PNG)


@pytest.mark.parametrize("padding", [b"", b"\0", b"\0" * 10_000])
def test_members_are_joined(padding: bytes) -> None:
    """Each member holds a part of the image; zeros between members are padding."""
    members = [gzip.compress(PNG[:10]), gzip.compress(b""), gzip.compress(PNG[10:])]
    assert decoded(padding.join(members), "gzip") == Content(PNG)


@pytest.mark.parametrize("stored", [zlib.compress(PNG), raw_deflate(PNG), zlib.compress(PNG) + b"tail", PACKED])
@pytest.mark.parametrize("encoding", ["deflate", "Deflate", "x-deflate"])
def test_deflate_is_undone_in_both_of_its_forms(stored: bytes, encoding: str) -> None:
    """Deflate has zlib's header by the standard, and none from some senders."""
    assert decoded(stored, encoding) == Content(PNG)


@pytest.mark.parametrize(
    ("encoding", "stored"),
    [
        ("gzip, gzip", gzip.compress(PACKED)),
        ("gzip, gzip", PACKED),
        ("deflate, gzip", gzip.compress(zlib.compress(PNG))),
        ("gzip, x-deflate", zlib.compress(PACKED)),
        ("utf-8, gzip", PACKED),
        ("identity, gzip", PACKED),
    ],
)
def test_stacked_encodings_are_undone_from_the_last(encoding: str, stored: bytes) -> None:
    """The header lists codings in the order in which they were applied."""
    assert decoded(stored, encoding) == Content(PNG)


@pytest.mark.parametrize(
    "encoding", [None, "", "gzip", "deflate", "gzip, deflate", "identity", "utf-8", "8bit", "image/png", "\xff, ,"]
)
def test_an_encoding_that_the_bytes_do_not_have_is_ignored(encoding: str | None) -> None:
    """A wrong label, which Cloud Storage accepts, does not change an image."""
    assert decoded(PNG, encoding) == Content(PNG)


@pytest.mark.parametrize(
    "head",
    [b"\xff\xd8\xff\xe0", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF\x10\0\0\0WEBP", b"\0\0\0\x1cftypheic"],
)
@pytest.mark.parametrize("rest", [bytes(5000), bytes(range(256)) * 20])
def test_no_image_is_taken_for_deflate(head: bytes, rest: bytes) -> None:
    """Deflate without a header has no signature, so it counts only as a whole stream."""
    assert decoded(head + rest, "deflate") == Content(head + rest)


def test_gzip_without_a_label_stays_compressed() -> None:
    """The bytes are the object; decoding then names gzip in its refusal."""
    assert decoded(PACKED, None) == Content(PACKED)


@pytest.mark.parametrize(
    ("encoding", "coding"),
    [
        ("br", "br"),
        ("BR", "br"),
        ("zstd", "zstd"),
        ("x-compress", "x-compress"),
        ("base64", "base64"),
        ("br, gzip", "br"),
        ("gzip, aws-chunked", "aws-chunked"),
    ],
)
def test_encodings_that_are_not_undone_are_named(encoding: str, coding: str) -> None:
    """An image under such a label is an image; bytes that are no image are so for this reason."""
    content = decoded(PACKED if "gzip" in encoding else PNG, encoding)
    assert content == Content(PNG, coding)
    explained = content.explain(InvalidImage("no image", code="not_an_image"))
    assert (explained.code, f'"{coding}"' in str(explained)) == ("unsupported_format", True)
    damaged = InvalidImage("damaged", code="corrupt_image")
    assert content.explain(damaged) is damaged


def test_without_an_encoding_the_error_of_decoding_stays() -> None:
    """Text that is named .jpg is text."""
    error = InvalidImage("text", code="not_an_image")
    assert decoded(b"text", "gzip, utf-8").explain(error) is error


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "incorrect data check"),
        (PACKED[:-1] + b"\xff", "incorrect length check"),
        (PACKED[:10] + b"\xff" + PACKED[11:], "invalid block type"),
        (PACKED + PACKED[:10] + b"\xff", "invalid block type"),
    ],
)
def test_damaged_compressed_bytes_name_the_encoding(stored: bytes, reason: str) -> None:
    """A checksum of gzip that does not match is damage to pixels."""
    error = refusal(stored, "gzip")
    assert error.code == "corrupt_image"
    assert "gzip" in str(error)
    assert str(error).endswith(f"({reason})")


def test_a_compressed_stream_without_its_end_gives_what_there_is() -> None:
    """A missing checksum costs no pixel, and a cut image is recognised by the image's reader."""
    assert decoded(PACKED[:-8], "gzip") == Content(PNG)
    assert PNG.startswith(decoded(PACKED[: len(PACKED) // 2], "gzip").data)
    assert refusal(PACKED[:10], "gzip").code == "truncated_image"


def test_an_empty_compressed_object_is_empty() -> None:
    """Zero bytes, and zero bytes compressed, are the same upload."""
    assert decoded(b"", "gzip") == decoded(gzip.compress(b""), "gzip") == Content(b"")


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip, gzip"])
def test_bombs_are_refused_at_the_limit(encoding: str) -> None:
    """The limit holds for the bytes of all members together, and for each of stacked encodings."""
    exact = gzip.compress(bytes(LIMIT // 2)) * 2
    assert decoded(exact, "gzip") == Content(bytes(LIMIT))
    bomb = exact + gzip.compress(b"1")
    for _ in range(encoding.count(",")):
        bomb = gzip.compress(bomb)
    error = refusal(bomb, encoding)
    assert isinstance(error, ImageRefused)
    assert error.code == "object_too_large"


def test_a_stream_of_empty_members_is_refused() -> None:
    """Members are bounded, since each costs time without a byte of an image."""
    empty = gzip.compress(b"")
    assert decoded(empty * (MAX_MEMBERS - 1) + PACKED, "gzip") == Content(PNG)
    assert refusal(empty * (MAX_MEMBERS + 1), "gzip").code == "image_too_complex"


def test_endless_encodings_are_refused() -> None:
    """Gzip can decompress to itself, so the number of stacked encodings is bounded."""
    assert decoded(PACKED, ",".join(["gzip"] * 5)) == Content(PNG)
    assert refusal(PACKED, ",".join(["gzip"] * 6)).code == "unsupported_format"


@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=5), st.integers(0, 9))
def test_any_split_into_members_gives_the_bytes_back(body: bytes, cuts: list[int], level: int) -> None:
    """The number and the size of members do not matter."""
    bounds = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    members = [gzip.compress(body[start:end], level) for start, end in pairwise(bounds)]
    assert decoded(b"".join(members), "gzip") == Content(body)


@given(
    st.binary(max_size=300) | st.builds(lambda tail: PACKED[:10] + tail, st.binary(max_size=300)),
    st.text(max_size=20) | st.sampled_from(["gzip", "deflate", "gzip, deflate", "deflate, gzip, br"]),
)
def test_no_bytes_and_no_label_raise_anything_else(stored: bytes, encoding: str) -> None:
    """Header and bytes come from strangers: the result is bounded content, or a refusal."""
    assert outcome(stored, encoding) in {
        "within the limit",
        "corrupt_image",
        "truncated_image",
        "object_too_large",
        "unsupported_format",
    }


def outcome(stored: bytes, encoding: str) -> str:
    try:
        content = decoded(stored, encoding)
    except PermanentError as error:
        return error.code
    return "within the limit" if len(content.data) <= LIMIT else "beyond the limit"
