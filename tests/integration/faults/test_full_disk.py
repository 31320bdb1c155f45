"""No file of Postgres can grow for a while, as on a full disk."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr

from dropline.contract import ObjectVersion
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, Settings
from local_emulators import postgres
from local_emulators.gcs import GcsServer
from local_emulators.ports import free_ports
from local_emulators.supervisor import Supervisor
from migrations.run import upgrade
from tests.support.deliveries import push
from tests.support.failpoints import Gate, inferences
from tests.support.function import deliver, serve
from tests.support.processes import linux_only
from tests.support.system_faults import SystemFaults
from tests.support.worker_rig import DEADLINE_S, Rig, open_rig, png
from trigger_fn import service

#: The page of the table with room is full after a few rows with such names.
_LONG_NAME = "n" * 900
_MOST_EVENTS = 200


@pytest.fixture
def small_disk(
    redis_url: str, gcs_server: GcsServer, state_directory: Path, system_faults: SystemFaults
) -> Iterator[Rig]:
    """A rig with a Postgres on a disk that can be full."""
    failpoints = state_directory / "failpoints"
    failpoints.mkdir()
    with Supervisor(state_directory / "logs") as supervisor:
        server = postgres.start(
            supervisor, state_directory / "postgres", free_ports(1)[0], "test", "fsync=off", "autovacuum=off"
        )
        server.create_database("disk")
        upgrade(server.url_for("disk"))
        service_ = server.service
        service_.command = dataclasses.replace(
            service_.command, environment={**service_.command.environment, **system_faults.on_small_disk}
        )
        service_.restart()
        rig = Rig(server.url_for("disk"), redis_url, gcs_server.url, "rig-disk", failpoints, supervisor)
        with open_rig(rig):
            yield rig


@pytest.fixture
def app(small_disk: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function over the servers of the rig."""
    settings = Settings(
        database=DatabaseSettings(url=SecretStr(small_disk.database_url)),
        broker=BrokerSettings(url=SecretStr(small_disk.redis_url)),
        events=EventSettings(buckets=(small_disk.bucket,)),
    )
    with service.open_endpoint(settings) as endpoint:
        yield serve(endpoint, monkeypatch)


def _send(app: Flask, version: ObjectVersion) -> int:
    event = push(version.name, version.generation, bucket=version.bucket, contentType="image/png")
    return deliver(app, event).status_code


@linux_only
def test_fault_48_a_full_disk(small_disk: Rig, app: Flask, system_faults: SystemFaults) -> None:
    """Events get 503, and a child keeps the caption; with room again, every image is captioned once."""
    rig = small_disk
    gate = Gate(rig.directory, "before-commit")
    worker = rig.worker()
    held = rig.upload("held.png", png((255, 255, 48), (4, 4)))
    assert _send(app, held) == 204
    gate.wait(DEADLINE_S)
    refused: list[ObjectVersion] = []
    sent = 1
    with system_faults.disk_full():
        while len(refused) < 3 and sent < _MOST_EVENTS:
            version = rig.upload(f"{_LONG_NAME}{sent}.png", png((sent, 0, 48), (4, 4)))
            if _send(app, version) == 503:
                refused.append(version)
            sent += 1
        assert len(refused) == 3
        gate.open()
        assert worker.wait_for_line("free disk space of the Postgres server", DEADLINE_S)
    assert [_send(app, version) for version in refused] == [204] * 3
    rows = rig.wait_settled(_row_ids(rig))
    assert len(rows) == sent
    assert {(row["status"], row["error_code"]) for row in rows} == {("captioned", None)}
    runs = inferences(rig.directory)
    assert sorted(runs) == sorted(set(runs))
    assert worker.alive


def _row_ids(rig: Rig) -> list[int]:
    with rig.database.transaction() as connection:
        return list(connection.exec_driver_sql("SELECT id FROM captions").scalars())
