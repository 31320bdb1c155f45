"""Objects that change during an attempt, and a Cloud Storage or a right that is away for a while."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from dropline.contract import ObjectVersion
from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, Settings
from tests.support.deliveries import push
from tests.support.failpoints import Gate, inferences
from tests.support.function import deliver, serve
from tests.support.gcs_proxy import GcsProxy
from tests.support.rows import end_waits
from tests.support.worker_rig import DEADLINE_S, Rig, png
from trigger_fn import service


@pytest.fixture
def proxied(rig: Rig, gcs_proxy: GcsProxy) -> GcsProxy:
    """The worker of the rig reaches Cloud Storage by this proxy."""
    rig.gcs_url = gcs_proxy.url
    return gcs_proxy


@pytest.fixture
def app(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function over the servers of the rig."""
    settings = Settings(
        database=DatabaseSettings(url=SecretStr(rig.database_url)),
        broker=BrokerSettings(url=SecretStr(rig.redis_url)),
        events=EventSettings(buckets=(rig.bucket,)),
    )
    with service.open_endpoint(settings) as endpoint:
        yield serve(endpoint, monkeypatch)


def _send(app: Flask, version: ObjectVersion, event_type: str = "OBJECT_FINALIZE", **fields: Any) -> None:
    event = push(
        version.name, version.generation, event_type, bucket=version.bucket, contentType="image/png", **fields
    )
    assert deliver(app, event).status_code == 204


def test_fault_5_a_write_back_starts_no_loop(rig: Rig, proxied: GcsProxy, app: Flask) -> None:
    """The events of the write-back itself make no row, no message and no further write."""
    version = rig.upload("a.png", png((1, 0, 5)))
    rig.worker()
    _send(app, version)
    (row,) = rig.wait_settled([1])
    metadata = rig.metadata(version)
    for metageneration in ("2", "3"):
        _send(app, version, "OBJECT_METADATA_UPDATE", metageneration=metageneration, metadata=metadata)
    # A later image has passed the whole path, so the events before it had no effect that is still to come.
    _send(app, rig.upload("b.png", png((2, 0, 5))))
    rig.wait_settled([2])
    assert rig.row(1) == row
    assert proxied.count("PATCH") == 2
    assert len(inferences(rig.directory)) == 2


def test_fault_21_a_task_longer_than_its_lease(rig: Rig) -> None:
    """A child is held before its commit, and another one captions the row: the late result is refused."""
    gate = Gate(rig.directory, "before-commit")
    slow = rig.worker("slow")
    row_id = rig.drop("a.png", png((1, 0, 21)))
    gate.wait(DEADLINE_S)
    with rig.database.transaction() as connection:
        end_waits(connection)  # as time does
    rig.enqueue(row_id)
    (row,) = rig.wait_settled([row_id])
    gate.open()
    assert slow.wait_for_line("result_refused", DEADLINE_S)
    assert rig.row(row_id) == row
    assert (row["status"], row["attempts"], row["lost_attempts"]) == ("captioned", 2, 1)


@pytest.mark.usefixtures("proxied")
@pytest.mark.parametrize("event_first", [True, False], ids=["its event before", "its event later"])
def test_fault_25_an_overwrite_while_captioning(rig: Rig, app: Flask, event_first: bool) -> None:
    """The newer version keeps its own metadata, early or late event; the older version is never current."""
    gate = Gate(rig.directory, "before-commit")
    old = rig.upload("a.png", png((1, 0, 25)))
    rig.worker()
    _send(app, old)
    gate.wait(DEADLINE_S)
    new = rig.upload("a.png", png((2, 0, 25)))
    if event_first:
        _send(app, new)
    gate.open()
    if not event_first:
        rig.wait_settled([1])
        assert rig.metadata(new) == {}
        _send(app, new)
    first, second = rig.wait_settled([1, 2])
    expected = ("superseded", None) if event_first else ("captioned", "010019")
    assert (first["status"], first["caption"]) == expected
    assert first["metadata_written_at"] is None
    assert second["caption"] == "020019"
    assert rig.metadata(new)["caption"] == "020019"
    with psycopg.connect(rig.database_url) as connection:
        current = connection.execute("SELECT generation FROM current_captions").fetchall()
    assert current == [(new.generation,)]


def test_fault_26_a_deletion_while_captioning(rig: Rig, app: Flask) -> None:
    """The row ends as deleted, without a second attempt."""
    gate = Gate(rig.directory, "before-commit")
    version = rig.upload("a.png", png((1, 0, 26)))
    rig.worker()
    _send(app, version)
    gate.wait(DEADLINE_S)
    rig.gcs.bucket(rig.bucket).blob("a.png").delete()
    _send(app, version, "OBJECT_DELETE")
    gate.open()
    (row,) = rig.wait_settled([1])
    assert (row["status"], row["caption"], row["attempts"]) == ("deleted", None, 1)


def test_fault_29_cloud_storage_is_busy(rig: Rig, proxied: GcsProxy) -> None:
    """Downloads and write-backs are tried again; no image runs twice, since the caption is committed first."""
    for status in (429, 503):
        proxied.fail("GET", status, times=2)
        proxied.fail("PATCH", status, times=2)
    rig.worker()
    ids = [rig.drop(f"{n}.png", png((n, 0, 29))) for n in range(3)]
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["error_code"], row["lost_attempts"]) for row in rows} == {("captioned", None, 0)}
    assert all(row["metadata_written_at"] for row in rows)
    assert len(inferences(rig.directory)) == 3


def _storage_role(
    rig: Rig, proxied: GcsProxy
) -> tuple[dict[str, str], Callable[[], object], Callable[[], object]]:
    return {}, lambda: proxied.fail("GET", 403, times=1_000_000), proxied.recover


def _postgres_role(
    rig: Rig, proxied: GcsProxy
) -> tuple[dict[str, str], Callable[[], object], Callable[[], object]]:
    del proxied
    url = make_url(rig.database_url)
    login = f"worker_of_{url.database}"

    def administer(statement: str) -> None:
        with psycopg.connect(rig.database_url, autocommit=True) as admin:
            admin.execute(statement.encode())

    administer(f"CREATE ROLE {login} LOGIN PASSWORD 'test' IN ROLE dropline_worker")
    own = url.set(username=login).render_as_string(hide_password=False)
    return (
        {"DROPLINE_DATABASE__URL": own},
        lambda: administer(f"REVOKE dropline_worker FROM {login}"),
        lambda: administer(f"GRANT dropline_worker TO {login}"),
    )


@pytest.mark.parametrize("role", [_storage_role, _postgres_role], ids=["Cloud Storage", "Postgres"])
def test_fault_42_a_role_revoked_and_given_back(rig: Rig, proxied: GcsProxy, role: Any) -> None:
    """Rows wait, the log names the missing right, and the rows are captioned afterwards, without a redrive."""
    variables, revoke, give_back = role(rig, proxied)
    worker = rig.worker(**variables)
    rig.wait_settled([rig.drop("before.png", png((0, 0, 42)))])
    revoke()
    ids = [rig.drop(f"{n}.png", png((1, n, 42))) for n in range(3)]
    assert worker.wait_for_line('"code": "access_denied"', DEADLINE_S)
    assert {rig.row(row_id)["status"] for row_id in ids} <= {"queued", "running"}
    give_back()
    rows = rig.wait_settled(ids)
    assert {(row["status"], row["error_code"], row["lost_attempts"]) for row in rows} == {("captioned", None, 0)}
    assert len(inferences(rig.directory)) == 4
