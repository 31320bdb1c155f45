"""`dropline drop` with a real Cloud Storage and Postgres; queries replace function and worker."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.exit_codes import ExitCode
from db.session import Database
from dropline.contract import FilterReason, ObjectVersion
from dropline.demo_model import DEMO_NOTICE
from dropline.storage.bucket import Storage
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from tests.support.rows import caption_object, drop, fail_object, filter_object
from tests.support.shell import BUCKET, HOSTILE, SHOWN, AfterUpload, run


def test_drop_uploads_and_tells_the_generation(image: Path, gcs_server: GcsServer) -> None:
    """Without --wait: one URI with its generation per file, and the object has type, bytes and task."""
    result = run("drop", image, "--prefix", "summer/", "--task", "od")
    assert result.exit_code == ExitCode.OK, result.output
    blob = Storage.on_emulator(gcs_server.url, "test")._client.bucket(BUCKET).get_blob("summer/a.png")
    assert result.stdout == f"gs://{BUCKET}/summer/a.png#{blob.generation}\n"
    assert blob.content_type == "image/png"
    assert blob.metadata == {"caption-task": "<OD>"}
    assert blob.download_as_bytes() == b"\x89PNG"


def test_drop_tells_how_many_files_are_left_out(tmp_path: Path) -> None:
    """From a directory, images go up by their names or bytes; a note has the number and the names of the rest."""
    directory = tmp_path / "d"
    directory.mkdir()
    heads = {"scan": b"\x89PNG\r\n\x1a\n", "raw.bin": b"FUJIFILMCCD-RAW 0201", "damaged.jpg": b"<html>"}
    for name, head in (heads | {f"{number:02}.txt": b"words" for number in range(12)}).items():
        (directory / name).write_bytes(head)
    (directory / ".hidden.png").write_bytes(b"x")
    result = run("drop", directory)
    assert result.exit_code == ExitCode.OK, result.output
    assert [line.partition("#")[0].rpartition("/")[2] for line in sorted(result.stdout.split())] == sorted(heads)
    hidden, others = result.stderr.splitlines()
    assert hidden == f"not dropped, hidden: 1 ({directory}/.hidden.png)"
    assert others.startswith(f"not dropped, no image by name and first bytes: 12 ({directory}/00.txt, ")
    assert others.endswith("/09.txt and 2 more)")


def test_drop_waits_for_its_captions(
    tmp_path: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """`--wait` waits for all captions: for those recorded during other uploads, and for later ones."""
    for number in range(12):
        (tmp_path / f"{number}.jpg").write_bytes(b"x")
    late: list[threading.Thread] = []

    def act(version: ObjectVersion) -> None:
        if int(version.name.rpartition("/")[2].removesuffix(".jpg")) % 2:
            caption_object(database, version, f"caption of {version.name}")
        else:
            late.append(threading.Thread(target=caption_object, args=(database, version, "late")))
            late[-1].start()

    after_upload(act)
    result = run("drop", tmp_path, "--wait", "--json", "--timeout", 120, "--parallel", 4)
    assert result.exit_code == ExitCode.OK, result.output
    found = json.loads(result.stdout)
    assert {each["status"] for each in found} == {"captioned"}
    assert sorted(Path(each["path"]).name for each in found) == sorted(f"{number}.jpg" for number in range(12))
    assert all(each["caption"] in ("late", f"caption of {each['object_name']}") for each in found)
    for thread in late:
        thread.join()


def test_drop_ignores_other_generations(
    image: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """An older caption of the same name, and the caption of another object, are not results of the upload."""

    def act(version: ObjectVersion) -> None:
        caption_object(database, ObjectVersion(BUCKET, version.name, version.generation - 1), "older")
        caption_object(database, ObjectVersion(BUCKET, "neighbour", version.generation), "neighbour")
        caption_object(database, version, "mine")

    after_upload(act)
    result = run("drop", image, "--wait", "--json", "--timeout", 120)
    assert [each["caption"] for each in json.loads(result.stdout)] == ["mine"]


def test_drop_shows_a_table_in_which_nothing_moves_the_cursor(
    image: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """Captions are printed with control characters escaped and markup as text; the model is named."""
    after_upload(lambda version: caption_object(database, version, HOSTILE))
    result = run("drop", image, "--wait", "--timeout", 120)
    assert result.exit_code == ExitCode.OK, result.output
    assert SHOWN in result.stdout
    assert "\x1b" not in result.stdout
    assert DEMO_NOTICE in result.stderr


def test_drop_ends_with_1_where_an_image_failed(
    image: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """The output has the error code and the error message."""
    after_upload(lambda version: fail_object(database, version, "truncated_image", "ends at byte 7"))
    result = run("drop", image, "--wait", "--timeout", 120)
    assert result.exit_code == ExitCode.FAILED
    assert "truncated_image: ends at byte 7" in result.stdout


def test_drop_ends_with_1_where_an_image_was_overwritten(
    image: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """An upload that is superseded before the caption ends with exit code 1."""

    def act(version: ObjectVersion) -> None:
        with database.transaction() as connection:
            drop(connection, version)
            drop(connection, ObjectVersion(BUCKET, version.name, version.generation + 1))

    after_upload(act)
    result = run("drop", image, "--wait", "--timeout", 120)
    assert result.exit_code == ExitCode.FAILED
    assert "superseded" in result.stdout


def test_drop_ends_at_once_for_a_filtered_object(
    tmp_path: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """The function's word ends the wait with exit code 5 and the setting; other objects are waited for."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")

    def act(version: ObjectVersion) -> None:
        if version.name.endswith("a.png"):
            filter_object(database, version, FilterReason.EXCLUDED)
        else:
            caption_object(database, version)

    after_upload(act)
    result = run("drop", tmp_path, "--wait", "--timeout", 120)
    assert result.exit_code == ExitCode.FILTERED
    assert "a red circle" in result.stdout
    rule = "(excluded: the name matches a glob of DROPLINE_EVENTS__EXCLUDE)"
    notice, line = result.stderr.splitlines()
    assert notice == DEMO_NOTICE
    assert line.startswith(f"error: gs://{BUCKET}/")
    assert line.endswith(f"is filtered and gets no caption {rule}")
    documents = json.loads(run("drop", tmp_path, "--wait", "--json", "--timeout", 120).stdout)
    assert {Path(each["path"]).name: each["status"] for each in documents} == {
        "a.png": "filtered",
        "b.png": "captioned",
    }


def test_a_failed_image_is_worse_than_a_filtered_one(
    tmp_path: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """The exit code of a failure has precedence over that of a filtered object."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"\x89PNG")

    def act(version: ObjectVersion) -> None:
        if version.name.endswith("a.png"):
            filter_object(database, version, FilterReason.CONTENT_TYPE)
        else:
            fail_object(database, version, "truncated_image", "ends at byte 7")

    after_upload(act)
    assert run("drop", tmp_path, "--wait", "--timeout", 120).exit_code == ExitCode.FAILED


def test_drop_says_where_to_look_when_no_row_comes(image: Path) -> None:
    """No event for the upload: exit code 124 and a hint about function and settings."""
    result = run("drop", image, "--wait", "--timeout", 0.2)
    assert result.exit_code == ExitCode.TIMED_OUT
    assert f"gs://{BUCKET}/a.png#" in result.stderr
    assert "has no row: is the function running" in result.stderr


def test_drop_says_where_to_look_when_a_row_stays_queued(
    image: Path, database: Database, after_upload: Callable[[AfterUpload], None]
) -> None:
    """No worker: exit code 124 and a hint about the worker; the JSON has the status."""

    def act(version: ObjectVersion) -> None:
        with database.transaction() as connection:
            drop(connection, version)

    after_upload(act)
    result = run("drop", image, "--wait", "--timeout", 0.2, "--json")
    assert result.exit_code == ExitCode.TIMED_OUT
    assert "still queued; is a worker running?" in result.stderr
    assert [each["status"] for each in json.loads(result.stdout)] == ["queued"]


def test_drop_into_a_bucket_that_is_not_there_is_told(image: Path) -> None:
    """A missing bucket is one line of error and exit code 2."""
    result = run("drop", image, "--bucket", "no-such-bucket")
    assert result.exit_code == ExitCode.USAGE
    assert "gs://no-such-bucket is not there" in result.stderr


def test_drop_to_a_storage_that_is_away_is_told(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unreachable Cloud Storage is one line of error and exit code 4, without endless retries."""
    monkeypatch.setattr("dropline.storage.bucket._RETRY_S", 0.1)
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{free_ports(1)[0]}")
    result = run("drop", image)
    assert result.exit_code == ExitCode.UNAVAILABLE, result.output
    assert result.stderr.startswith("error: Cloud Storage did not take the request")


@pytest.mark.parametrize(
    "name", ['\N{CAT FACE} it\'s "a".jpg', "a#1.jpg", "100%2F?.jpg", " lead.jpg", "..x[red].jpg", "x\x1b[31m.jpg"]
)
def test_names_make_the_round_trip(
    tmp_path: Path, database: Database, after_upload: Callable[[AfterUpload], None], name: str
) -> None:
    """Any file name, with any prefix, is the same in bucket and table."""
    (tmp_path / name).write_bytes(b"x")
    after_upload(lambda version: caption_object(database, version))
    for prefix in ("", "/", "a//b/", "ü" * ((1024 - len(name.encode())) // 2)):
        result = run("drop", tmp_path / name, "--prefix", prefix, "--wait", "--json", "--timeout", 120)
        assert result.exit_code == ExitCode.OK, result.output
        (found,) = json.loads(result.stdout)
        assert found["object_name"] == prefix + name
        assert run("wait", f"gs://{BUCKET}/{prefix}{name}#{found['generation']}").stdout == "a red circle\n"
