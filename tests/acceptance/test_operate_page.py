"""The program of docs/operate.md that announces the objects of a bucket, run on the running stack."""

import json
import re
import sys
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from local_emulators.options import BUCKET, PROJECT, TOPIC
from tests.acceptance.conftest import LocalCloud
from tests.support.pages import ROOT, code_of

pytestmark = pytest.mark.acceptance

_SAMPLE = ROOT / "local_emulators/samples/purple-star.png"
_CAPTIONED = """
    SELECT object_name, task, id FROM captions
    WHERE object_name LIKE %s AND metadata_written_at IS NOT NULL ORDER BY object_name
"""


def program() -> str:
    """The Python program in the here-document of the page."""
    (body,) = [code.body for code in code_of((ROOT / "docs/operate.md").read_text()) if "<<'END'" in code.body]
    found = re.search(r"<<'END'\n(.*)^END$", body, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]


def forget(cloud: LocalCloud, name: str) -> None:
    """Delete a row as the owner of the table: the database then lacks the row, like one from an older backup."""
    passwords: Path = cloud.stack.directory.path / "passwords.json"
    owner = make_conninfo(
        cloud.environment["DATABASE_URL"],
        user="dropline_deploy",
        password=json.loads(passwords.read_text())["deploy"],
    )
    with psycopg.connect(owner) as connection:
        deleted = connection.execute("DELETE FROM captions WHERE object_name = %s", [name])
        assert deleted.rowcount == 1


def test_announced_objects_get_the_rows_that_they_lack(cloud: LocalCloud, prefix: str) -> None:
    """A lost row is inserted again with the same task; the other row is unchanged."""
    with cloud.changes() as changes:
        for name in ("kept.png", "lost.png"):
            blob = cloud.bucket.blob(f"{prefix}{name}")
            blob.metadata = {"caption-task": "od"}
            blob.upload_from_filename(_SAMPLE)
        before = changes.wait_for(2, _CAPTIONED, f"{prefix}%")
        forget(cloud, f"{prefix}lost.png")
        cloud.run(sys.executable, "-c", program(), PROJECT, BUCKET, TOPIC)
        after = changes.wait_for(2, _CAPTIONED, f"{prefix}%")
    assert after[0] == before[0]
    assert [(row["object_name"], row["task"]) for row in after] == [
        (f"{prefix}kept.png", "<OD>"),
        (f"{prefix}lost.png", "<OD>"),
    ]
    assert after[1]["id"] > before[1]["id"]
