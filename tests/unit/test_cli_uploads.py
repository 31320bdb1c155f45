"""Which files go up, and under which names."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dropline.contract import ObjectVersion
from dropline.errors import ClientError, StorageUnavailable
from dropline.storage.uploads import Upload, Uploaded, content_type, plan_uploads, upload_all


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


def test_what_is_no_image_stays_in_its_directory(tmp_path: Path) -> None:
    """Files without an image's extension are skipped and listed; hidden files are skipped and not listed."""
    touch(tmp_path, "d/a.jpg", "d/notes.txt", "d/raw", "d/.hidden.jpg", "d/.git/b.jpg")
    plan = plan_uploads([tmp_path / "d"])
    assert [upload.name for upload in plan.uploads] == ["d/a.jpg", "d/raw"]
    assert plan.skipped == (tmp_path / "d" / "notes.txt",)


def test_a_file_named_by_its_user_goes_up_whatever_it_is(tmp_path: Path) -> None:
    """A file given by path is uploaded as octet-stream, which the function does not filter by content type."""
    touch(tmp_path, "notes.txt")
    assert plan_uploads([tmp_path / "notes.txt"]).uploads[0].content_type == "application/octet-stream"


def test_a_directory_gives_its_images_and_what_has_no_ending(tmp_path: Path) -> None:
    """Notes and programs are skipped; a file without an extension may be an image."""
    for name in ("a.png", "README.md", "model.safetensors", "scan"):
        touch(tmp_path, name)
    plan = plan_uploads([tmp_path])
    assert [upload.path.name for upload in plan.uploads] == ["a.png", "scan"]
    assert sorted(path.name for path in plan.skipped) == ["README.md", "model.safetensors"]


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
    with pytest.raises(ClientError, match="no image in"):
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
