"""Which files go up, and under which names."""

import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dropline.contract import ObjectVersion
from dropline.errors import ClientError, StorageUnavailable
from dropline.storage.uploads import LeftOut, Plan, Upload, Uploaded, content_type, plan_uploads, upload_all


def touch(directory: Path, *names: str) -> None:
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_files_keep_their_names_and_directories_their_own(tmp_path: Path) -> None:
    """A file keeps its name, the files of a directory are below the directory's name, all behind the prefix."""
    touch(tmp_path, "one.jpg", "photos/b.png", "photos/deep/a.webp")
    plan = plan_uploads([tmp_path / "one.jpg", tmp_path / "photos"], "summer/")
    names = [upload.name for upload in plan.uploads]
    assert names == ["summer/one.jpg", "summer/photos/b.png", "summer/photos/deep/a.webp"]


def test_the_current_directory_has_a_name_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`.` is replaced by the name of the directory."""
    touch(tmp_path, "photos/a.png")
    monkeypatch.chdir(tmp_path / "photos")
    assert [upload.name for upload in plan_uploads([Path()]).uploads] == ["photos/a.png"]


def names(plan: Plan) -> list[str]:
    return [upload.name for upload in plan.uploads]


def test_what_is_no_image_stays_in_its_directory(tmp_path: Path) -> None:
    """Files that are no images, hidden files, links and pipes are left out, each with a reason."""
    touch(tmp_path, "d/a.jpg", "d/notes.txt", "d/LICENSE", "d/.hidden.jpg", "d/.git/b.jpg")
    (tmp_path / "d" / "link").symlink_to(tmp_path)
    (tmp_path / "d" / "broken.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "d" / "pipe.jpg")
    plan = plan_uploads([tmp_path / "d"])
    assert names(plan) == ["d/a.jpg"]
    found = {str(reason): [path.name for path in paths] for reason, paths in plan.summary().items()}
    assert found == {
        LeftOut.HIDDEN: ["b.jpg", ".hidden.jpg"],
        LeftOut.NO_IMAGE: ["LICENSE", "notes.txt"],
        LeftOut.SPECIAL: ["broken.jpg", "link", "pipe.jpg"],
    }


def test_a_directory_that_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images below are not uploaded, and the plan says so."""
    touch(tmp_path, "d/a.jpg", "d/locked/b.jpg")
    scandir = os.scandir

    def refuse(path: str) -> "os._ScandirIterator[str]":
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    plan = plan_uploads([tmp_path / "d"])
    assert names(plan) == ["d/a.jpg"]
    assert plan.left_out == ((tmp_path / "d" / "locked", LeftOut.UNREADABLE),)


def test_a_file_named_by_its_user_goes_up_whatever_it_is(tmp_path: Path) -> None:
    """A file given by path is uploaded as octet-stream, which the function does not filter by content type."""
    touch(tmp_path, "notes.txt")
    assert plan_uploads([tmp_path / "notes.txt"]).uploads[0].content_type == "application/octet-stream"


def test_the_bytes_decide_where_the_name_does_not(tmp_path: Path) -> None:
    """A file with any name or none is uploaded if its first bytes are those of an image."""
    for name in ("scan", "IMG_1.thumb", "photo.txt", "README", "empty"):
        (tmp_path / name).write_bytes(b"" if name == "empty" else name.encode())
    plan = plan_uploads([tmp_path], "", lambda head: head in (b"scan", b"IMG_1.thumb", b"photo.txt"))
    assert [(each.path.name, each.content_type) for each in plan.uploads] == [
        ("IMG_1.thumb", "application/octet-stream"),
        ("photo.txt", "application/octet-stream"),
        ("scan", "application/octet-stream"),
    ]
    assert [path.name for path, _ in plan.left_out] == ["README", "empty"]


def test_a_file_that_cannot_be_read_is_no_file_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreadable file is planned: the upload then fails with the reason."""
    touch(tmp_path, "d/scan")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert names(plan_uploads([tmp_path / "d"])) == ["d/scan"]


@pytest.mark.parametrize(
    "extension",
    [
        *("jfif", "jpe", "pjpeg", "hif", "heics", "heifs", "avifs", "mpo", "jxl", "bmp", "tif", "tga"),
        *("dng", "NEF", "cr3", "x3f"),
    ],
)
def test_every_extension_of_images_is_known(tmp_path: Path, extension: str) -> None:
    """An image with an extension that Python's table lacks is uploaded from a directory, with an image's type."""
    touch(tmp_path, f"d/a.{extension}")
    (upload,) = plan_uploads([tmp_path / "d"]).uploads
    assert (upload.content_type or "").startswith("image/")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.jpg", "image/jpeg"),
        ("a.JPEG", "image/jpeg"),
        ("a.heic", "image/heic"),
        ("a.avif", "image/avif"),
        ("a.webp", "image/webp"),
        ("a.svg", "image/svg+xml"),
        ("a", None),
        ("a.unknown", None),
    ],
)
def test_content_types_are_the_same_on_every_machine(name: str, kind: str | None) -> None:
    """Newer image formats have a content type; unknown extensions have no content type."""
    assert content_type(name) == kind


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    """A single wrong path prevents all uploads."""
    touch(tmp_path, "a.jpg")
    with pytest.raises(ClientError, match=r"b\.jpg is not there"):
        plan_uploads([tmp_path / "a.jpg", tmp_path / "b.jpg"])


def test_a_directory_without_images_is_an_error(tmp_path: Path) -> None:
    """A drop without images is an error."""
    touch(tmp_path, "d/notes.txt")
    with pytest.raises(
        ClientError, match=r"no image in .*/d, 1 × no image by name and first bytes; give the paths"
    ):
        plan_uploads([tmp_path / "d"])


def test_two_files_never_become_one_object(tmp_path: Path) -> None:
    """Two files with the same object name are an error with both files and the name."""
    touch(tmp_path, "x/a.jpg", "y/a.jpg")
    with pytest.raises(ClientError, match=r"x/a\.jpg and .*y/a\.jpg would both become 'a\.jpg'"):
        plan_uploads([tmp_path / "x" / "a.jpg", tmp_path / "y" / "a.jpg"])


def test_names_no_object_can_have_are_refused(tmp_path: Path) -> None:
    """A name that is too long, has a line break or is not UTF-8 is an error before any upload."""
    touch(tmp_path, "a.jpg", "b\n.jpg")
    with pytest.raises(ClientError, match="1024 bytes"):
        plan_uploads([tmp_path / "a.jpg"], "ü" * 510)
    with pytest.raises(ClientError, match="not allowed"):
        plan_uploads([tmp_path / "b\n.jpg"])
    strange = tmp_path / os.fsdecode(b"\xff.jpg")
    strange.write_bytes(b"x")
    with pytest.raises(ClientError, match="UTF-8"):
        plan_uploads([strange])


def _uploaded(upload: Upload) -> Uploaded:
    return Uploaded(upload, ObjectVersion("b", upload.name, 1), datetime.now(UTC))


def test_a_file_that_cannot_be_read_does_not_stop_the_others(tmp_path: Path) -> None:
    """The reason is reported; all other files are uploaded and reported."""
    touch(tmp_path, "d/a.jpg", "d/b.jpg", "d/c.jpg")
    told: list[str] = []

    def upload(each: Upload) -> Uploaded:
        if each.name == "d/b.jpg":
            raise PermissionError(13, "Permission denied")
        return _uploaded(each)

    plan = plan_uploads([tmp_path / "d"])
    done, unreadable = upload_all(plan, upload, 2, lambda each: told.append(each.version.name))
    assert sorted(told) == sorted(each.version.name for each in done) == ["d/a.jpg", "d/c.jpg"]
    assert [(each.name, why) for each, why in unreadable] == [("d/b.jpg", "Permission denied")]


def test_a_storage_that_is_away_stops_everything(tmp_path: Path) -> None:
    """After an error of Cloud Storage no further upload starts."""
    touch(tmp_path, *(f"d/{number:03}.jpg" for number in range(100)))
    begun: list[str] = []

    def upload(each: Upload) -> Uploaded:
        begun.append(each.name)
        raise StorageUnavailable("away")

    with pytest.raises(StorageUnavailable):
        upload_all(plan_uploads([tmp_path / "d"]), upload, 1, lambda _: None)
    assert len(begun) < 100


def test_dropping_needs_no_library_of_images() -> None:
    """`dropline[cli]` installs neither Pillow nor numpy: the first bytes are inspected without these libraries."""
    program = "import sys; sys.modules['PIL'] = sys.modules['numpy'] = None; import cli.drop"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
