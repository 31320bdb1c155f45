"""Rows for tests of exports, and exports that are cut short."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from db import attempts
from dropline.contract import ObjectFacts, ObjectVersion, TaskRequest
from dropline.selection import Filtered, Selection
from dropline.settings import EventSettings
from operations.export import run as running
from tests.support.rows import IMAGE, a_caption, drop, take
from tests.support.shell import BUCKET, Finished, run

FORMATS = ("jsonl", "csv", "parquet", "coco")
BOXES = {"bboxes": [[10, 20, 30, 60], [0, 0, 5.5, 5]], "labels": ["cat", "dog"]}
OUTLINE = {"polygons": [[[0, 0, 10, 0, 10, 10, 0, 10]]], "labels": ["cat"]}


def version(name: str, generation: int = 1, bucket: str = BUCKET) -> ObjectVersion:
    return ObjectVersion(bucket, name, generation)


def answer(connection: Connection, name: str, task: str, words: str, result: dict[str, Any]) -> None:
    """A row with regions."""
    claim = take(connection, drop(connection, version(name), TaskRequest.parse(task)))
    caption = a_caption(words, result)
    assert attempts.record_caption(connection, claim, caption, IMAGE, size_bytes=9, write_back_lease_s=None).held


def cut_short(monkeypatch: pytest.MonkeyPatch, parts: int, *arguments: object) -> Finished:
    """Run a command that is killed after some parts are written, before the next mark."""
    done: list[int] = []
    count = running.Progress.count

    def kill(self: running.Progress, *values: int) -> None:
        count(self, *values)
        done.append(1)
        if len(done) > parts:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(running.Progress, "count", kill)
        return run(*arguments)


def content(file: Path, name: str) -> object:
    """What a reader finds in a file."""
    if name == "parquet":
        import pyarrow.parquet as pq

        return pq.read_table(file).to_pylist()
    return file.read_bytes()


def is_filtered(blob: Any) -> bool:
    """Whether the function's default rules filter an object."""
    facts = ObjectFacts(blob.content_type, blob.size)
    selection = Selection(EventSettings(buckets=(BUCKET,)))
    return isinstance(selection.judge(ObjectVersion(BUCKET, blob.name, 1), facts, None), Filtered)
