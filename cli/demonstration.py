"""What `dropline demo` shows: sample images go in, their captions come out, and SQL finds them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from importlib import resources
from pathlib import Path

from pydantic import SecretStr
from rich.text import Text

from cli import results
from cli.console import cell, print_line, print_table
from cli.dropping import Dropped, Target, drop_files
from cli.waiting import Waiter
from db.read_only import run_read_only
from db.reads import CaptionRecord
from dropline.contract import ObjectVersion, Status, TaskPrompt, TaskRequest
from dropline.settings import DatabaseSettings
from dropline.storage.bucket import Storage
from dropline.storage.uploads import Uploaded, plan_uploads

#: The slowest laptop's longest wait for its sample images, in seconds.
_TIMEOUT_S = 300.0
_SQL_TIMEOUT_MS = 10_000
_CAPTIONS, _OBJECTS = "samples/", "samples/objects/"

QUERIES = {
    "Full-text search: pictures with a triangle and something red": """
        SELECT object_name, caption FROM current_captions
        WHERE to_tsvector('english', caption) @@ websearch_to_tsquery('english', 'red triangle')
          AND task = '<CAPTION>' ORDER BY object_name""",
    "How it went: rows by task and status": """
        SELECT task, status, count(*) AS rows,
               round(avg(extract(epoch FROM captioned_at - queued_at)) * 1000) AS average_ms
        FROM captions GROUP BY task, status ORDER BY task, status""",
    "Boxes of <OD>, from jsonb: the largest things in all pictures": """
        SELECT object_name, label, box
        FROM current_captions, ROWS FROM (jsonb_array_elements_text(result -> 'labels'),
                                          jsonb_array_elements(result -> 'bboxes')) AS found (label, box)
        WHERE task = '<OD>'
        ORDER BY ((box ->> 2)::float - (box ->> 0)::float) * ((box ->> 3)::float - (box ->> 1)::float) DESC
        LIMIT 5""",
    "What the pictures show most": """
        SELECT label, count(*) AS times
        FROM current_captions, jsonb_array_elements_text(result -> 'labels') AS label
        WHERE task = '<OD>' GROUP BY label ORDER BY times DESC, label LIMIT 5""",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many sample images got a caption, and how many captions are what they should be."""

    samples: int
    arrived: int
    #: None where nobody can know: another model than the demo's says other words.
    right: int | None

    @property
    def good(self) -> bool:
        """Whether the demonstration is a success."""
        return self.samples == self.arrived and self.right in (None, self.samples)


class _Announcer:
    """Prints each caption as it is heard of."""

    def uploaded(self, _: Uploaded) -> None:
        """Nothing to say before the caption is there."""

    def ended(self, _: ObjectVersion, rows: list[CaptionRecord]) -> None:
        """One line per row."""
        for row in rows:
            state = results.status_cell(row.status)
            print_line(Text("  ").join([state, cell(row.object_name), cell(results.words_of(row))]))


def demonstrate(environment: Mapping[str, str], *, knows_samples: bool) -> Verdict:
    """Drop the samples twice, for captions and for boxes; print what comes back, and a few queries.

    Args:
        environment: the stack's, as its `env` file has it.
        knows_samples: whether the model is the one the samples were drawn for.

    Raises:
        ClientError, AccessDenied, StorageUnavailable, DatabaseUnavailable.
    """
    database = DatabaseSettings(url=SecretStr(environment["DATABASE_URL"]))
    storage = Storage.on_emulator(environment["STORAGE_EMULATOR_HOST"], environment["GOOGLE_CLOUD_PROJECT"])
    bucket = environment["DROPLINE_BUCKET"]
    captions = _drop_samples(database, Target(storage, bucket), _CAPTIONS)
    boxes = _drop_samples(database, Target(storage, bucket, TaskRequest(TaskPrompt.OD)), _OBJECTS)
    results.complain_about_missing(captions.missing | boxes.missing, _TIMEOUT_S)
    verdict = _judge(captions, expected_captions() if knows_samples else None)
    _print_captions(captions)
    for title, statement in QUERIES.items():
        _print_query(database, title, statement)
    return verdict


def sample_directory() -> Path:
    """Where the sample images are."""
    return Path(str(resources.files("local_emulators"))) / "samples"


def expected_captions() -> dict[str, str]:
    """What each sample shows, by file name."""
    documents = json.loads((sample_directory() / "captions.json").read_text())
    return {each["file"]: each["caption"] for each in documents}


def _drop_samples(database: DatabaseSettings, target: Target, prefix: str) -> Dropped:
    files = [sample_directory() / name for name in expected_captions()]
    task = target.task or "no task named"
    print_line()
    print_line(f"dropping {len(files)} sample images into gs://{target.bucket}/{prefix} ({task})")
    with Waiter(database) as waiter:
        started = time.monotonic()
        plan = plan_uploads(files, prefix)
        dropped = drop_files(plan, target, _Announcer(), waiter=waiter, timeout_s=_TIMEOUT_S)
    print_line(f"{len(dropped.rows)} rows after {time.monotonic() - started:.1f} s")
    return dropped


def _judge(dropped: Dropped, expected: Mapping[str, str] | None) -> Verdict:
    captions = {_file_name(row): row.caption for row in dropped.rows if row.status is Status.CAPTIONED}
    right = None if expected is None else sum(captions.get(name) == caption for name, caption in expected.items())
    return Verdict(len(dropped.uploaded) + len(dropped.unreadable), len(captions), right)


def _file_name(row: CaptionRecord) -> str:
    return row.object_name.rpartition("/")[2]


def _print_captions(dropped: Dropped) -> None:
    uploaded_at = {each.version: each.at for each in dropped.uploaded}
    lines = []
    for row in sorted(dropped.rows, key=_file_name):
        took = (row.captioned_at or row.updated_at) - uploaded_at[row.version]
        lines.append((row.object_name, results.words_of(row), str(round(took / timedelta(milliseconds=1)))))
    print_line()
    print_table(("object", "caption", "ms from upload to row"), lines)


def _print_query(database: DatabaseSettings, title: str, statement: str) -> None:
    print_line()
    print_line(title)
    for line in _dedented(statement):
        print_line(Text(f"    {line}", style="cyan"))
    result = run_read_only(database, statement, _SQL_TIMEOUT_MS)
    print_table(result.columns, result.rows)


def _dedented(statement: str) -> list[str]:
    import textwrap

    return textwrap.dedent(statement).strip().splitlines()
