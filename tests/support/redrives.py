"""Failed rows by the dozen, the command that sends them again, and what came of both."""

import base64
import json
from typing import Any

import redis
from sqlalchemy import Connection, Engine, text

from db.dead_letters import Wanted
from dropline.cli.exit_codes import ExitCode
from dropline.contract import CAPTION_QUEUE, ObjectVersion
from tests.support.rows import (
    fail_object,
    status_of,
)
from tests.support.shell import run

ALL = Wanted()


def ignore(_told: object) -> None:
    """Nobody listens."""


def named(number: int, bucket: str = "drops") -> ObjectVersion:
    return ObjectVersion(bucket, f"{number}.jpg", 1)


def fail_many(engine: Engine, count: int, code: str = "worker_lost") -> list[int]:
    return [fail_object(engine, named(number), code, f"words of {number}") for number in range(count)]


def enqueued(queue: "redis.Redis") -> list[int]:
    """Row ids on the queue, in the order in which workers get them."""
    bodies = [json.loads(each)["body"] for each in reversed(list(queue.lrange(CAPTION_QUEUE, 0, -1)))]
    return [json.loads(base64.b64decode(body))[0][0] for body in bodies]


def table(connection: Connection) -> list[Any]:
    return list(connection.execute(text("SELECT * FROM captions ORDER BY id")))


def statuses(connection: Connection, ids: list[int]) -> set[str]:
    return {str(status_of(connection, row_id)) for row_id in ids}


def redrive(*arguments: object) -> dict[str, Any]:
    """The document of a command that did what it was asked."""
    result = run("redrive", *arguments, "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document
