"""The alive workers, from a real Redis: named connections, access control, an unreachable server."""

from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from redis import Redis

from dropline.broker.queue import CaptionQueue
from dropline.broker.workers import AliveWorkers, read_workers
from dropline.errors import BrokerUnavailable
from dropline.scaling.mark import MARK_KEY
from dropline.scaling.protocol import AWAKE
from dropline.settings import BrokerSettings, PoolSettings, Settings
from local_emulators.ports import free_ports
from operations.workers import WorkerState, availability
from worker.celery_app import make_celery

_USER = "without-client-list"


@pytest.fixture
def client(redis_url: str) -> Iterator[Redis]:
    """A client with all rights."""
    with Redis.from_url(redis_url) as client:
        yield client


def settings_of(url: str, pool: str = "") -> Settings:
    return Settings(broker=BrokerSettings(url=SecretStr(url)), pool=PoolSettings(name=pool))


def test_only_the_connection_that_takes_messages_makes_a_worker_alive(redis_url: str) -> None:
    """A child's connection that sends a message may outlive the worker, and has no name."""
    settings = settings_of(redis_url)
    with make_celery(settings) as app:
        CaptionQueue(app).wake(7)
        assert read_workers(settings.broker) == AliveWorkers(frozenset())
        with app.connection_for_read() as connection:
            connection.connect()
            assert read_workers(settings.broker) == AliveWorkers(frozenset({app.connection_name}))
        assert availability(settings).state is WorkerState.NONE


def test_a_user_without_client_list_gets_no_answer_instead_of_a_wrong_one(client: Redis, redis_url: str) -> None:
    """An access control list that refuses CLIENT LIST: not known, with the reason and the remedy."""
    client.execute_command("ACL", "SETUSER", _USER, "on", ">secret", "~*", "+@all", "-client|list")
    try:
        settings = settings_of(redis_url.replace(":test@", f"{_USER}:secret@"))
        found = availability(settings)
    finally:
        client.execute_command("ACL", "DELUSER", _USER)
    assert found.state is WorkerState.NOT_KNOWN
    assert "CLIENT LIST" in found.words()
    assert "give the user of DROPLINE_BROKER__URL the right" in found.words()


@pytest.mark.parametrize(("refused", "told"), [("-client", "CLIENT LIST"), ("-client|setname", "CLIENT SETNAME")])
def test_a_worker_takes_messages_from_a_redis_without_the_command_client(
    client: Redis, redis_url: str, refused: str, told: str
) -> None:
    """As a managed Redis may: the connection has no name, and the worker counts as not known, never as none."""
    client.execute_command("ACL", "SETUSER", _USER, "on", ">secret", "~*", "&*", "+@all", refused)
    settings = settings_of(redis_url.replace(":test@", f"{_USER}:secret@"))
    try:
        with make_celery(settings) as app, app.connection_for_read() as connection:
            connection.connect()
            with connection.channel() as channel:
                assert channel.client.ping()
            found = availability(settings)
    finally:
        client.execute_command("ACL", "DELUSER", _USER)
    assert found.state is WorkerState.NOT_KNOWN
    assert told in found.words()


def test_an_unreachable_redis_is_an_error() -> None:
    """The error is that of every command on Redis."""
    with pytest.raises(BrokerUnavailable, match="cannot read the list of workers on Redis"):
        availability(settings_of(f"redis://127.0.0.1:{free_ports(1)[0]}/0"))


def test_the_mark_tells_a_waking_worker_pool_from_a_sleeping_one(client: Redis, redis_url: str) -> None:
    """Without a mark the worker pool sleeps; without a worker pool the mark is not read."""
    pool = "projects/p/locations/l/workerPools/w"
    assert availability(settings_of(redis_url, pool)).state is WorkerState.NONE
    client.set(MARK_KEY, AWAKE)
    assert availability(settings_of(redis_url, pool)).state is WorkerState.WAKING
    assert availability(settings_of(redis_url)).state is WorkerState.NONE
