"""Exports that were cut short, with a real Postgres and Cloud Storage."""

import gc
import json
from pathlib import Path

import pytest
from google.cloud.storage import Bucket

from cli.exit_codes import ExitCode
from dropline.errors import ObjectMissing
from dropline.storage.bucket import Storage
from dropline.storage.exports import ExportStorage
from local_emulators import gcs
from local_emulators.gcs import GcsServer
from operations.export import run as running
from tests.support.exports import FORMATS, content, cut_short
from tests.support.shell import BUCKET, run


@pytest.mark.usefixtures("rows", "small_parts")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("parts", [1, 2])
def test_an_export_that_was_cut_short_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, parts: int
) -> None:
    """After each part: no row is lost or doubled, and the file appears when it is whole."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    whole, file = tmp_path / "whole", tmp_path / "file"
    assert run("export", "--format", name, "--to", whole).exit_code == ExitCode.OK
    assert cut_short(monkeypatch, parts, "export", "--format", name, "--to", file).exit_code != ExitCode.OK
    assert not file.exists()
    result = run("export", "--format", name, "--to", file)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert content(file, name) == content(whole, name)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["file", "whole"]
    if parts > 1:
        assert "cut short" in result.stderr


@pytest.mark.usefixtures("rows", "small_parts")
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("at", ["whole", "new", "unlink", "replace", "remove"])
def test_an_export_that_was_killed_at_its_end_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, at: str
) -> None:
    """Before and after each step, from the finished rows to the removed directory."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    whole, file = tmp_path / "expected", tmp_path / "file"
    command = ("export", "--format", name, "--to", file)
    assert run("export", "--format", name, "--to", whole).exit_code == ExitCode.OK
    with monkeypatch.context() as patch:
        kill_at(patch, at, file)
        assert run(*command).exit_code != ExitCode.OK
    assert file.exists() is (at in {"replace", "remove"})
    result = run(*command)
    assert result.exit_code == ExitCode.OK, result.stderr
    assert content(file, name) == content(whole, name)
    assert "6 rows exported" in result.stderr or name == "coco"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["expected", "file"]


def kill_at(patch: pytest.MonkeyPatch, at: str, file: Path) -> None:
    """Have an export to a file end at one step."""
    renamed, unlinked = Path.replace, Path.unlink

    def replace(self: Path, target: Path) -> Path:
        if at == "new" and self.name in {"whole.new", "rows"}:
            raise KeyboardInterrupt
        found = renamed(self, target)
        if (at == "whole" and target.name == "whole") or (at == "replace" and target == file):
            raise KeyboardInterrupt
        return found

    def unlink(self: Path, *, missing_ok: bool = False) -> None:
        unlinked(self, missing_ok=missing_ok)
        if at == "unlink" and self.name == "state.json":
            raise KeyboardInterrupt

    def remove(_directory: Path) -> None:
        if at == "remove":
            raise KeyboardInterrupt

    patch.setattr(Path, "replace", replace)
    patch.setattr(Path, "unlink", unlink)
    patch.setattr(running, "remove", remove)


@pytest.mark.usefixtures("rows", "small_parts")
@pytest.mark.parametrize("name", FORMATS)
def test_an_unfinished_export_without_its_rows_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """No file is made of rows that are gone."""
    if name == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / "file"
    cut_short(monkeypatch, 2, "export", "--format", name, "--to", file)
    for path in (tmp_path / "file.part").iterdir():
        if path.name not in {"state.json", "lock"}:
            path.unlink()
    result = run("export", "--format", name, "--to", file)
    assert result.exit_code == ExitCode.USAGE
    assert "file.part to begin again" in result.stderr
    assert not file.exists()


@pytest.mark.usefixtures("rows", "small_parts")
def test_an_unfinished_export_with_the_columns_of_another_release_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lines with different columns in one file would be a damaged file."""
    file = tmp_path / "file.csv"
    command = ("export", "--format", "csv", "--to", file)
    cut_short(monkeypatch, 2, *command)
    state = tmp_path / "file.csv.part" / "state.json"
    values = json.loads(state.read_text())
    del values["columns"]
    state.write_text(json.dumps(values))
    refused = run(*command)
    assert (refused.exit_code, file.exists()) == (ExitCode.USAGE, False)
    assert "other columns" in refused.stderr


@pytest.mark.usefixtures("rows", "small_parts")
def test_an_unfinished_export_with_other_options_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And an age goes on from the first call, so the same command goes on."""
    file = tmp_path / "file"
    older = ("export", "--older-than", "0s", "--to", file)
    cut_short(monkeypatch, 2, *older)
    refused = run("export", "--to", file)
    assert refused.exit_code == ExitCode.USAGE
    assert "other options" in refused.stderr
    assert run(*older).exit_code == ExitCode.OK
    assert len(file.read_text().splitlines()) == 6


@pytest.mark.usefixtures("rows", "small_parts")
def test_an_export_to_an_object_that_was_cut_short_leaves_none(
    monkeypatch: pytest.MonkeyPatch, bucket: Bucket
) -> None:
    """An upload that ended early would look like a whole export."""
    assert cut_short(monkeypatch, 2, "export", "--to", f"gs://{BUCKET}/cut.jsonl").exit_code != ExitCode.OK
    assert bucket.get_blob("cut.jsonl") is None


@pytest.mark.usefixtures("bucket")
def test_an_export_whose_end_failed_makes_no_object_later(gcs_server: GcsServer) -> None:
    """The library's writer sends its bytes again when the garbage collector ends it."""
    storage, late = Storage.on_emulator(gcs_server.url, "test"), "late-drops"
    with pytest.raises(ObjectMissing), ExportStorage(storage).writing(late, "rows.jsonl", "text/plain") as out:
        out.write(b"rows")
    gcs.create_bucket(gcs_server.url, "test", late)
    del out
    gc.collect()
    assert list(storage._client.list_blobs(late)) == []
