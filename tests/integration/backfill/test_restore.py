"""The restore of docs/operate.md, rehearsed: dump, loss, restore, migrations, reconcile."""

import subprocess
from pathlib import Path

import psycopg
from sqlalchemy import text
from sqlalchemy.engine import make_url

from dropline.contract import ObjectVersion
from dropline.storage.listing import Listing
from local_emulators.postgres import PostgresServer, installation_directory
from migrations.run import upgrade
from operations.backfill_request import Source
from operations.comparing import Difference
from operations.reconcile import Reconciler
from tests.support.bulk import BulkRig
from tests.support.rows import database_of, drop, record, take


def caption(bulk: BulkRig, name: str) -> None:
    """An object with a captioned row."""
    version = ObjectVersion(bulk.bucket.name, name, bulk.put(name))
    with bulk.database.transaction() as connection:
        assert record(connection, take(connection, drop(connection, version)), write_back=False)


def postgres_tool(name: str, *arguments: str) -> None:
    subprocess.run([str(installation_directory() / "bin" / name), *arguments], check=True, capture_output=True)


def test_a_restored_database_is_reconciled_with_the_bucket(
    bulk: BulkRig, database_url: str, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Rows of the dump are back with their captions; what came and went after the dump is found and repaired."""
    for name in ("kept.jpg", "gone.jpg"):
        caption(bulk, name)
    dump = str(tmp_path / "dump")
    postgres_tool("pg_dump", "--format=custom", f"--file={dump}", database_url)
    caption(bulk, "later.jpg")
    bulk.bucket.blob("gone.jpg").delete()

    database = make_url(database_url).database
    with psycopg.connect(postgres_server.url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {database}".encode())
    postgres_tool("pg_restore", "--exit-on-error", f"--dbname={database_url}", dump)
    upgrade(database_url)

    with database_of(database_url) as restored:
        reconciler = Reconciler(
            bulk.settings, restored, Listing.connect(bulk.settings), bulk.messages.append, bulk.wake
        )
        counts = reconciler.run(Source.parse(f"{bulk.uri}/"), young_s=0, fix=True)
        assert counts.fixed == counts.found == {Difference.GONE: 1, Difference.NO_ROW: 1}
        with restored.transaction() as connection:
            rows = connection.execute(text("SELECT object_name, status, caption IS NOT NULL FROM captions"))
            assert sorted(map(tuple, rows)) == [
                ("gone.jpg", "deleted", True),
                ("kept.jpg", "captioned", True),
                ("later.jpg", "queued", False),
            ]
