"""Many given-up rows, the redrive command, and the results of both."""

import base64
import json
import subprocess
from collections.abc import Callable
from typing import Any, TypeAlias

import redis
from sqlalchemy import Connection, text

from cli.exit_codes import ExitCode
from db.redrivable import RowFilter
from db.session import Database
from dropline.contract import CAPTION_QUEUE, ObjectVersion
from tests.support.rows import drop, fail_object, finish_write_back, record, status_of, take
from tests.support.shell import run
from tests.support.worker_rig import DEADLINE_S

StartRedrive: TypeAlias = "Callable[..., subprocess.Popen[str]]"
Redrive: TypeAlias = Callable[..., None]

ALL = RowFilter()


def ignore(_told: object) -> None:
    """Ignore progress and messages."""


def named(number: int, bucket: str = "drops") -> ObjectVersion:
    return ObjectVersion(bucket, f"{number}.jpg", 1)


def fail_many(database: Database, count: int, code: str = "worker_lost") -> list[int]:
    return [fail_object(database, named(number), code, f"words of {number}") for number in range(count)]


def leave_unwritten(database: Database, version: ObjectVersion, code: str, error: str) -> int:
    """Make a captioned row without write-back; returns the id."""
    with database.transaction() as connection:
        row_id = drop(connection, version)
        assert record(connection, take(connection, row_id), write_back=True)
        assert finish_write_back(connection, row_id, written=False, code=code, note=error)
    return row_id


def leave_many_unwritten(database: Database, count: int, code: str = "access_denied") -> list[int]:
    return [leave_unwritten(database, named(number), code, f"words of {number}") for number in range(count)]


def enqueued(queue: "redis.Redis") -> list[int]:
    """Row ids on the queue, oldest message first."""
    bodies = [json.loads(each)["body"] for each in reversed(list(queue.lrange(CAPTION_QUEUE, 0, -1)))]
    return [json.loads(base64.b64decode(body))[0][0] for body in bodies]


def table(connection: Connection) -> list[Any]:
    return list(connection.execute(text("SELECT * FROM captions ORDER BY id")))


def statuses(connection: Connection, ids: list[int]) -> set[str]:
    return {str(status_of(connection, row_id)) for row_id in ids}


def redrive(*arguments: object) -> dict[str, Any]:
    """Run the command successfully; returns the JSON document."""
    result = run("redrive", *arguments, "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def ended(process: "subprocess.Popen[str]") -> tuple[int, str]:
    """Wait for the end of the process; returns exit code and standard error."""
    _, errors = process.communicate(timeout=DEADLINE_S)
    return process.returncode, errors
