"""`dropline caption` in a running stack, with the three tasks of the demo model."""

import json
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import LocalCloud

pytestmark = pytest.mark.acceptance

_SAMPLE = Path("local_emulators/samples/purple-star.png")
_ANSWERS = {"caption": "a purple star", "od": "purple star"}


def test_a_path_and_an_object_are_answered_as_fresh_drops(cloud: LocalCloud, prefix: str, tmp_path: Path) -> None:
    """A path by its event, an object by its request; the object's metadata keeps the caption of its own task."""
    command = (sys.executable, "-m", "cli", "caption")
    blob = cloud.bucket.blob(f"{prefix}star.png")
    blob.upload_from_filename(str(_SAMPLE))
    uri = f"gs://{cloud.bucket.name}/{blob.name}"
    for task, answer in _ANSWERS.items():
        for image in (str(_SAMPLE), uri):
            assert cloud.run(*command, image, "--task", task) == f"{answer}\n"
    detailed = json.loads(cloud.run(*command, uri, str(_SAMPLE), "--task", "detailed_caption", "--json"))
    assert [each["caption"] for each in detailed] == [detailed[0]["caption"]] * 2
    assert "purple star" in detailed[0]["caption"]
    boxes = tmp_path / "boxes.png"
    assert cloud.run(*command, uri, "--task", "od", "--annotate", str(boxes)) == "purple star\n"
    assert boxes.read_bytes().startswith(b"\x89PNG")
    assert cloud.run(*command, uri) == "a purple star\n"
    with cloud.changes() as changes:
        changes.wait_for(
            1, "SELECT FROM captions WHERE object_name = %s AND metadata_written_at IS NOT NULL", blob.name
        )
    blob.reload()
    assert blob.metadata["caption-prompt"] == "<CAPTION>"
