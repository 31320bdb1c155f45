"""An upgrade and its rollback, with real processes of an older version on the schema of the present one.

Migrations run first, then the function and the workers are replaced one after another, so both versions work side
by side for a while. A rollback leaves the schema as it is.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import requests

from dropline.contract import ObjectVersion
from local_emulators.application import ServiceEnvironment, start_function
from local_emulators.ports import HOST, free_ports
from local_emulators.supervisor import Service, Supervisor
from tests.support.deliveries import push
from tests.support.failpoints import INFERENCE_VARIABLE, inferences
from tests.support.old_version import OldVersion, unpack
from tests.support.worker_rig import DEADLINE_S, Rig, png

#: The version before this one: migration 0010, messages as now.
_PREVIOUS = "d08900b48494a57c6c69d4fb43fa5f624b99be63"
#: Migration 0005: Redis has the queue; a row has no priority, no time before which it waits, no name of a child.
_BEFORE_THE_QUEUE = "e1ae1ac475af9de81307c8703f70e5f53024cd47"
_SLOW = {INFERENCE_VARIABLE: "0.1"}


@pytest.fixture(
    params=[_PREVIOUS, _BEFORE_THE_QUEUE], ids=["the version before", "before Postgres kept the queue"]
)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> OldVersion:
    """The files of an older version."""
    return unpack(request.param, tmp_path / "old")


def _old_worker(rig: Rig, old: OldVersion, name: str) -> Service:
    rig.unknown = frozenset({"DROPLINE_ENGINE__MEMORY_BYTES"})
    try:
        with old.entered():
            return rig.worker(name, **_SLOW, **old.variables)
    finally:
        rig.unknown = frozenset()


@contextmanager
def _functions(rig: Rig, old: OldVersion, directory: Path) -> Iterator[tuple[str, str]]:
    """URLs of the old and of the new function."""
    with ExitStack() as running:
        urls = []
        for name, variables in (("old", old.variables), ("new", {})):
            supervisor = running.enter_context(Supervisor(directory / f"{name}-function"))
            environment = {"DROPLINE_EVENTS__BUCKETS": json.dumps([rig.bucket]), **variables}
            shared = ServiceEnvironment(rig.redis_url, rig.gcs_url, environment)
            (port,) = free_ports(1)
            with old.entered() if name == "old" else ExitStack():
                start_function(supervisor, port, shared, rig.database_url)
            urls.append(f"http://{HOST}:{port}/")
        yield urls[0], urls[1]


def _post(url: str, version: ObjectVersion) -> None:
    delivery = push(version.name, version.generation, bucket=version.bucket, contentType="image/png")
    answer = requests.post(url, data=delivery.body, headers=delivery.headers, timeout=DEADLINE_S)
    assert answer.status_code == 204


def _drop(rig: Rig, urls: tuple[str, str], names: range, blue: int) -> list[ObjectVersion]:
    """Objects whose events go to both functions in turn; the first of them reaches both, as a repetition."""
    versions = [rig.upload(f"{blue}-{number}.png", png((number, 1, blue), (4, 4))) for number in names]
    for number, version in enumerate(versions):
        _post(urls[number % 2], version)
    for url in urls:
        _post(url, versions[0])
    return versions


def _captioned_once(rig: Rig, versions: list[ObjectVersion]) -> None:
    with psycopg.connect(rig.database_url) as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM captions").fetchall()]
    rows = rig.wait_settled(ids)
    assert sorted(row["object_name"] for row in rows) == sorted(version.name for version in versions)
    assert {(row["status"], row["error_code"]) for row in rows} == {("captioned", None)}
    for version in versions:
        assert rig.metadata(version)["caption"] in inferences(rig.directory)
    assert len(inferences(rig.directory)) == len(versions)


def test_an_upgrade_and_a_rollback_lose_nothing_and_repeat_nothing(
    rig: Rig, old: OldVersion, tmp_path: Path
) -> None:
    """Old and new functions and workers side by side, then the new worker alone, then the old one alone."""
    assert old.imported("worker.app").is_relative_to(old.directory)
    first = _old_worker(rig, old, "old")
    with _functions(rig, old, tmp_path) as urls:
        versions = _drop(rig, urls, range(8), 1)
        second = rig.worker("new", **_SLOW)
        versions += _drop(rig, urls, range(8), 2)
        first.stop()
        versions += _drop(rig, urls, range(8), 3)
        _captioned_once(rig, versions)

        # The rollback: a row in a back-off of the new version, and rows that were queued by its function.
        waiting = rig.upload("waiting.png", png((0, 0, 9), (4, 4)))
        second.stop()
        _post(urls[1], waiting)
        with psycopg.connect(rig.database_url) as connection:
            connection.execute(
                "UPDATE captions SET not_before = now() + interval '1 s', failing_since = now(), attempts = 1, "
                "error_code = 'storage_unavailable', error = 'x' WHERE object_name = 'waiting.png'"
            )
        versions += [waiting, *_drop(rig, urls, range(8), 4)]
        _old_worker(rig, old, "old-again")
        _captioned_once(rig, versions)
