"""Texts beside images, in a directory and in a bucket, with a real Postgres and Cloud Storage."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from google.cloud.storage import Bucket
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db.session import Database
from dropline.storage.bucket import Storage
from dropline.storage.exports import ExportStorage
from local_emulators.gcs import GcsServer
from tests.support.exports import OUTLINE, answer, is_filtered, version
from tests.support.rows import caption_object
from tests.support.shell import BUCKET, run


@pytest.mark.usefixtures("rows")
def test_a_text_beside_each_image(tmp_path: Path, database: Database) -> None:
    """The caption that the metadata have; a repetition writes the same files, and new captions."""
    assert run("export", "--format", "txt", "--to", tmp_path / "set").exit_code == ExitCode.OK
    found = {
        str(path.relative_to(tmp_path / "set")): path.read_text() for path in (tmp_path / "set").rglob("*.txt")
    }
    assert found == {
        "cats/1.txt": "a picture of cats/1.jpg\n",
        "cats/2.txt": "a picture of cats/2.jpg\n",
        "dogs/1.txt": "a picture of dogs/1.jpg\n",
        "dogs/2.txt": "=SUM(1)\n",
    }
    with database.transaction() as connection:
        connection.execute(text("UPDATE captions SET caption = 'new' WHERE object_name = 'dogs/1.jpg'"))
    assert run("export", "--format", "txt", "--to", tmp_path / "set").exit_code == ExitCode.OK
    assert (tmp_path / "set" / "dogs" / "1.txt").read_text() == "new\n"
    assert run("export", "--format", "txt", "--task", "od", "--to", tmp_path / "od").exit_code == ExitCode.OK
    assert (tmp_path / "od" / "cats" / "1.txt").read_text() == "cat, dog\n"


def test_an_overwritten_image_gets_a_new_text(tmp_path: Path, database: Database, bucket: Bucket) -> None:
    """The text is the image's, not that of one version: no stale caption stays."""
    for generation in (1, 2):
        caption_object(database, version("over.jpg", generation), f"generation {generation}")
        for to in (tmp_path / "set", f"gs://{BUCKET}/over"):
            result = run("export", "--format", "txt", "--to", to)
            assert result.exit_code == ExitCode.OK, result.stderr
        assert (tmp_path / "set" / "over.txt").read_text() == f"generation {generation}\n"
        assert bucket.blob("over/over.txt").download_as_bytes().decode() == f"generation {generation}\n"


def test_no_name_leads_out_of_the_directory_and_no_two_names_share_a_file(
    tmp_path: Path, database: Database
) -> None:
    """Hostile names, names that fall together, a link, and a file where another name has a folder."""
    hostile = (
        ".dropline-export.sqlite-journal/x.jpg",
        "../out.jpg",
        "/abs.jpg",
        "a/../../out.jpg",
        "a//b.jpg",
        "x" * 300 + ".jpg",
        "link/out.jpg",
        "a\nb.jpg",
    )
    for name in (*hostile, "a.jpg", "a.png", "A.jpg", "n.txt/b.jpg", "n.jpg", "ok/ö.jpg", "ok/o\u0308.jpg"):
        caption_object(database, version(name), name)
    inside, outside = tmp_path / "set", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (inside / "link").symlink_to(outside)
    result = run("export", "--format", "txt", "--to", inside)
    assert result.exit_code == ExitCode.FAILED
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt") if path.is_file())
    assert len(written) == 3
    assert {"set/ok/ö.txt"} < set(written)
    assert all(each.startswith("set/") for each in written)
    assert "3 texts written" in result.stderr
    assert "no text for" in result.stderr
    again = run("export", "--format", "txt", "--to", inside)
    assert "3 texts written" in again.stderr


def test_the_earliest_row_has_a_shared_file(tmp_path: Path, database: Database, bucket: Bucket) -> None:
    """Many threads write; which of two names that fall together has the text does not depend on them."""
    for number in range(40):
        for name in (f"{number}/a.jpg", f"{number}/a.png"):
            caption_object(database, version(name), name)
    texts = {f"{number}/a.txt": f"{number}/a.jpg\n" for number in range(40)}
    assert "40 texts written" in run("export", "--format", "txt", "--to", tmp_path).stderr
    assert {name: (tmp_path / name).read_text() for name in texts} == texts
    assert "40 texts written" in run("export", "--format", "txt", "--to", f"gs://{BUCKET}/texts").stderr
    assert {name: bucket.blob(f"texts/{name}").download_as_bytes().decode() for name in texts} == texts


def test_long_names_of_many_bytes_have_their_own_texts(tmp_path: Path, database: Database) -> None:
    """Names of 255 bytes, which share their first 200 characters, written at the same time."""
    names = [f"{'長' * 80}{number:011}.jpg" for number in range(40)]
    names += [f"{'a' * 240}{number:011}.jpg" for number in range(40)]
    for name in names:
        caption_object(database, version(name), name)
    result = run("export", "--format", "txt", "--to", tmp_path / "set")
    assert result.exit_code == ExitCode.OK, result.stderr
    found = {path.name: path.read_text() for path in (tmp_path / "set").glob("*.txt")}
    assert found == {f"{name.removesuffix('.jpg')}.txt": f"{name}\n" for name in names}
    assert {path.name for path in (tmp_path / "set").iterdir()} == {*found, ".dropline-export.sqlite"}


def test_a_name_that_the_file_system_has_no_room_for_is_refused(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems have shorter names; the other texts are written."""
    for name in ("a.jpg", f"folder/{'n' * 150}.jpg"):
        caption_object(database, version(name), "a")
    opened = os.open

    def with_short_names(path: Path, *arguments: Any) -> int:
        if "folder" in str(path):
            raise OSError(errno.ENAMETOOLONG, "File name too long")
        return opened(path, *arguments)

    monkeypatch.setattr(os, "open", with_short_names)
    result = run("export", "--format", "txt", "--to", tmp_path / "set")
    assert result.exit_code == ExitCode.FAILED
    assert "the name is too long for a file" in result.stderr
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["a.txt"]


def test_a_directory_that_can_have_no_file_of_names_is_refused(tmp_path: Path) -> None:
    """With exit code 2: here the name of the file is a directory's."""
    (tmp_path / ".dropline-export.sqlite").mkdir()
    result = run("export", "--format", "txt", "--to", tmp_path)
    assert result.exit_code == ExitCode.USAGE
    assert "no file of names" in result.stderr


@pytest.mark.parametrize("place", ["directory", "bucket"])
def test_an_image_has_one_text(tmp_path: Path, connection: Connection, bucket: Bucket, place: str) -> None:
    """Rows of one version, in one part or in two: the first is written, and the others are refused."""
    segments = [f"<REGION_TO_SEGMENTATION><loc_{n}><loc_{n}><loc_3><loc_4>" for n in range(8)]
    for number, task in enumerate(segments):
        answer(connection, "many.jpg", task, f"number {number}", OUTLINE)
    to = tmp_path / "set" if place == "directory" else f"gs://{BUCKET}/many"
    result = run("export", "--format", "txt", "--task", "region-to-segmentation", "--to", to)
    assert result.exit_code == ExitCode.FAILED
    assert "1 texts written" in result.stderr
    assert result.stderr.count("an image has one text, that of an earlier row") == 7
    blob = bucket.blob("many/many.txt")
    written = (tmp_path / "set" / "many.txt").read_bytes() if place == "directory" else blob.download_as_bytes()
    assert written == b"number 0\n"


@pytest.mark.usefixtures("rows")
def test_texts_in_a_bucket(bucket: Bucket) -> None:
    """Beside the images, or below a prefix; the function filters them, and another program's object stays."""
    bucket.blob("texts/dogs/1.txt").upload_from_string("mine", content_type="text/plain")
    result = run("export", "--format", "txt", "--to", f"gs://{BUCKET}/texts")
    assert result.exit_code == ExitCode.FAILED
    assert "no export wrote it" in result.stderr
    assert bucket.blob("texts/dogs/1.txt").download_as_bytes() == b"mine"
    blob = bucket.get_blob("texts/dogs/2.txt")
    assert blob.download_as_bytes() == b"=SUM(1)\n"
    assert is_filtered(blob)
    again = run("export", "--format", "txt", "--prefix", "cats/", "--to", f"gs://{BUCKET}/texts")
    assert again.exit_code == ExitCode.OK, again.stderr


def test_no_two_images_share_a_text_in_a_bucket(database: Database, bucket: Bucket) -> None:
    """Names with another extension and in another bucket: the first keeps the text, also at a repetition."""
    caption_object(database, version("shared/a.jpg"), "first")
    assert run("export", "--format", "txt", "--to", f"gs://{BUCKET}").exit_code == ExitCode.OK
    for other in (version("shared/a.png"), version("shared/a.jpg", bucket="elsewhere")):
        caption_object(database, other, "second")
    result = run("export", "--format", "txt", "--to", f"gs://{BUCKET}")
    assert result.exit_code == ExitCode.FAILED
    assert result.stderr.count(f"is the text of gs://{BUCKET}/shared/a.jpg") == 2
    assert "1 texts written" in result.stderr
    assert bucket.blob("shared/a.txt").download_as_bytes() == b"first\n"


def test_texts_that_several_exports_write_at_once(gcs_server: GcsServer) -> None:
    """Each race ends with a text of one image; an export that loses is told the owner."""
    storage = ExportStorage(Storage.on_emulator(gcs_server.url, "test"))

    def write(number: int) -> str:
        return storage.write_text(BUCKET, f"raced/{number // 8}.txt", "x", f"gs://{BUCKET}/{number % 2}.jpg")

    with ThreadPoolExecutor(8) as pool:
        reasons = list(pool.map(write, range(64)))
    for name in range(8):
        owners = {reason == "" for reason in reasons[8 * name : 8 * name + 8 : 2]}
        others = {reason == "" for reason in reasons[8 * name + 1 : 8 * name + 8 : 2]}
        assert {*owners, *others} == {True, False}
        assert len(owners) == len(others) == 1


def test_a_text_that_is_deleted_or_replaced_meanwhile(
    gcs_server: GcsServer, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the object and its replacement: the text is written all the same."""
    storage = ExportStorage(Storage.on_emulator(gcs_server.url, "test"))
    image = f"gs://{BUCKET}/gone.jpg"
    assert storage.write_text(BUCKET, "gone.txt", "old", image) == ""
    found, changes = ExportStorage._found, ["delete", "replace"]

    def meanwhile(self: ExportStorage, *arguments: str) -> tuple[int, str]:
        seen = found(self, *arguments)
        match changes.pop(0) if changes else "":
            case "delete":
                bucket.blob("gone.txt").delete()
            case "replace":
                with monkeypatch.context() as patch:
                    patch.setattr(ExportStorage, "_found", found)
                    assert storage.write_text(BUCKET, "gone.txt", "of the other", image) == ""
        return seen

    monkeypatch.setattr(ExportStorage, "_found", meanwhile)
    assert storage.write_text(BUCKET, "gone.txt", "new", image) == ""
    assert changes == []
    assert bucket.blob("gone.txt").download_as_bytes() == b"new"
