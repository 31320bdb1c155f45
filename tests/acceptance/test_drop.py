"""Images uploaded with real clients to a running stack: captions in Postgres and in the object metadata."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import LocalCloud

pytestmark = pytest.mark.acceptance

_SAMPLES = Path("local_emulators/samples")
_TRUTH: dict[str, dict[str, Any]] = {
    sample["file"]: sample for sample in json.loads((_SAMPLES / "captions.json").read_text())
}
_GSUTIL = str(Path(sys.executable).with_name("gsutil"))

_CAPTIONED = "SELECT * FROM current_captions WHERE object_name LIKE %s AND metadata_written_at IS NOT NULL"


def _samples() -> list[Path]:
    return sorted(path for path in _SAMPLES.iterdir() if path.name in _TRUTH)


def test_gsutil_cp_to_caption_row_metadata_and_full_text(cloud: LocalCloud, prefix: str) -> None:
    """After `gsutil cp` the right captions are in rows and object metadata, and full-text search finds a row."""
    samples = _samples()
    target = f"gs://{cloud.bucket.name}/{prefix}"
    with cloud.changes() as changes:
        cloud.run(_GSUTIL, "-q", "cp", *map(str, samples), target)
        rows = changes.wait_for(len(samples), _CAPTIONED, f"{prefix}%")
        found = changes.rows(
            "SELECT object_name FROM current_captions WHERE object_name LIKE %s"
            " AND to_tsvector('english', caption) @@ websearch_to_tsquery('english', 'purple star')",
            f"{prefix}%",
        )
    captions = {row["object_name"].removeprefix(prefix): row["caption"] for row in rows}
    assert captions == {path.name: _TRUTH[path.name]["caption"] for path in samples}
    assert [row["object_name"] for row in found] == [f"{prefix}purple-star.png"]
    shown = cloud.run(_GSUTIL, "stat", f"{target}purple-star.png")
    assert _TRUTH["purple-star.png"]["caption"] in shown
    assert "caption-model" in shown


def test_the_uploaders_metadata_is_kept_and_names_the_task(cloud: LocalCloud, prefix: str) -> None:
    """`caption-task` in the metadata selects the task, other keys stay, and boxes are pixels of the original."""
    path = _samples()[0]
    blob = cloud.bucket.blob(f"{prefix}boxes")
    blob.metadata = {"caption-task": "od", "owner": "Zoë"}
    with cloud.changes() as changes:
        blob.upload_from_filename(path, content_type="application/octet-stream")
        (row,) = changes.wait_for(1, _CAPTIONED, f"{prefix}%")
    labels = [item["label"] for item in _TRUTH[path.name]["objects"]]
    assert (row["task"], row["result"]["labels"]) == ("<OD>", labels)
    assert all(0 <= x1 < x2 <= row["width"] for x1, _, x2, _ in row["result"]["bboxes"])
    assert all(0 <= y1 < y2 <= row["height"] for _, y1, _, y2 in row["result"]["bboxes"])
    stored = cloud.bucket.get_blob(blob.name)
    assert stored is not None
    assert stored.metadata | {"caption-model": ""} == {
        "caption": row["caption"],
        "caption-task": "od",
        "caption-prompt": "<OD>",
        "caption-model": "",
        "owner": "Zoë",
    }


def test_gsutil_names_the_task_overwrites_and_deletes(cloud: LocalCloud, prefix: str) -> None:
    """An upload with a task and an overwrite have one row each; after `gsutil rm` no row is current."""
    first, second = _samples()[:2]
    uri = f"gs://{cloud.bucket.name}/{prefix}same"
    with cloud.changes() as changes:
        cloud.run(_GSUTIL, "-q", "-h", "x-goog-meta-caption-task:detailed_caption", "cp", str(first), uri)
        (detailed,) = changes.wait_for(1, _CAPTIONED, f"{prefix}%")
        cloud.run(_GSUTIL, "-q", "cp", str(second), uri)
        (plain,) = changes.wait_for(1, f"{_CAPTIONED} AND task = '<CAPTION>'", f"{prefix}%")
        # The exit status is ignored: gsutil fails on the body `null` of fake-gcs-server's response to a deletion.
        subprocess.run((_GSUTIL, "-q", "rm", uri), env=cloud.environment, capture_output=True, check=False)
        changes.wait_for(
            1,
            "SELECT 1 FROM captions WHERE generation = %s AND status = 'deleted'",
            plain["generation"],
        )
        assert changes.rows("SELECT 1 FROM current_captions WHERE object_name LIKE %s", f"{prefix}%") == []
    assert (detailed["task"], detailed["generation"] < plain["generation"]) == ("<DETAILED_CAPTION>", True)
    assert plain["caption"] == _TRUTH[second.name]["caption"]


def test_gcloud_storage_cp(cloud: LocalCloud, prefix: str) -> None:
    """`gcloud storage cp` works with the variables of the `env` file alone."""
    if shutil.which("gcloud") is None:
        pytest.skip("the Google Cloud CLI is not installed")
    with cloud.changes() as changes:
        cloud.run("gcloud", "storage", "cp", str(_samples()[0]), f"gs://{cloud.bucket.name}/{prefix}")
        (row,) = changes.wait_for(1, _CAPTIONED, f"{prefix}%")
    assert row["caption"] == _TRUTH[_samples()[0].name]["caption"]


def test_the_same_name_twice_gives_two_generations_one_current(cloud: LocalCloud, prefix: str) -> None:
    """An overwrite inserts a new row; only the newest generation is current, with the caption of the new image."""
    first, second = _samples()[:2]
    with cloud.changes() as changes:
        for path in (first, second):
            cloud.bucket.blob(f"{prefix}same").upload_from_filename(path)
            changes.wait_for(1, f"{_CAPTIONED} AND caption = %s", f"{prefix}%", _TRUTH[path.name]["caption"])
        rows = changes.rows("SELECT * FROM captions WHERE object_name LIKE %s ORDER BY generation", f"{prefix}%")
        current = changes.rows("SELECT * FROM current_captions WHERE object_name LIKE %s", f"{prefix}%")
    assert len({row["generation"] for row in rows}) == len(rows) == 2
    assert [row["generation"] for row in current] == [rows[-1]["generation"]]
    stored = cloud.bucket.get_blob(f"{prefix}same")
    assert stored is not None
    assert stored.metadata["caption"] == _TRUTH[second.name]["caption"]


def test_a_deleted_object_is_current_no_more(cloud: LocalCloud, prefix: str) -> None:
    """The row of a deleted object gets the status `deleted` and is not current; the caption stays as a record."""
    with cloud.changes() as changes:
        blob = cloud.bucket.blob(f"{prefix}gone")
        blob.upload_from_filename(_samples()[0])
        changes.wait_for(1, _CAPTIONED, f"{prefix}%")
        blob.delete()
        changes.wait_for(
            1, "SELECT 1 FROM captions WHERE object_name LIKE %s AND status = 'deleted'", f"{prefix}%"
        )
        assert changes.rows("SELECT 1 FROM current_captions WHERE object_name LIKE %s", f"{prefix}%") == []


def test_what_is_no_image_fails_and_says_why(cloud: LocalCloud, prefix: str) -> None:
    """An empty object and a text fail with an error code; another object is captioned."""
    with cloud.changes() as changes:
        cloud.bucket.blob(f"{prefix}empty.png").upload_from_string(b"", content_type="image/png")
        cloud.bucket.blob(f"{prefix}words.jpg").upload_from_string(b"just words", content_type="image/jpeg")
        cloud.bucket.blob(f"{prefix}good.png").upload_from_filename(_samples()[0])
        changes.wait_for(1, _CAPTIONED, f"{prefix}good%")
        failed = changes.wait_for(
            2,
            "SELECT * FROM captions WHERE object_name LIKE %s AND status = 'failed' ORDER BY object_name",
            f"{prefix}%",
        )
    assert [row["error_code"] for row in failed] == ["empty_object", "not_an_image"]
    assert all(row["error"] and row["caption"] is None for row in failed)


def test_awkward_names_make_the_round_trip(cloud: LocalCloud, prefix: str) -> None:
    """A row has exactly the uploaded name: emoji, quotes, dots, slashes, percent signs, 1024 bytes."""
    tails = [
        "🦜'\"`;--",
        "../../x",
        "a#b?c=d&e",
        "%2F%00",
        " spaces ",
        "/leading",
        "\\back\tslash",
        "<b>&amp;[red]",
    ]
    names = [prefix + tail for tail in tails]
    names.append(prefix + "x" * (1024 - len(prefix)))
    data = _samples()[0].read_bytes()
    with cloud.changes() as changes:
        for name in names:
            cloud.bucket.blob(name).upload_from_string(data, content_type="image/png")
        rows = changes.wait_for(len(names), _CAPTIONED, f"{prefix}%")
    assert sorted(row["object_name"] for row in rows) == sorted(names)
    for name in names:
        stored = cloud.bucket.get_blob(name)
        assert stored is not None
        assert stored.metadata["caption"] == _TRUTH[_samples()[0].name]["caption"]


def test_two_hundred_images_at_once(cloud: LocalCloud, prefix: str) -> None:
    """Each of 200 simultaneous uploads has one row, captioned with one attempt."""
    samples = _samples()
    data = {path: path.read_bytes() for path in samples}

    def upload(number: int) -> None:
        path = samples[number % len(samples)]
        cloud.bucket.blob(f"{prefix}{number:03}").upload_from_string(data[path], content_type="image/png")

    with cloud.changes() as changes:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(upload, range(200)))
        rows = changes.wait_for(200, _CAPTIONED, f"{prefix}%")
        everything = changes.rows("SELECT status FROM captions WHERE object_name LIKE %s", f"{prefix}%")
    assert len(rows) == len(everything) == 200
    assert {row["attempts"] for row in rows} == {1}
    right = [_TRUTH[samples[int(row["object_name"][-3:]) % len(samples)].name]["caption"] for row in rows]
    assert [row["caption"] for row in rows] == right
