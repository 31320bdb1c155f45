"""Checks of the options before any service starts, so that a wrong option is reported by name."""

from importlib.util import find_spec
from pathlib import Path

import psycopg
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from dropline.demo_model import BASE_MODEL, DEMO_MODEL
from dropline.errors import LocalStackError
from dropline.postgres_url import check_postgres_url, refused_address
from dropline.redis_url import check_redis_url
from dropline.settings import DEFAULT_CHECKPOINT, load_settings
from local_emulators.errors import MissingBinaryError
from local_emulators.options import STUB_MODEL, StackOptions

#: Longest wait for an external server, in seconds.
_TIMEOUT_S = 5


def check(options: StackOptions) -> None:
    """Checks the settings, the model and the external servers.

    Raises:
        SettingsError: a `DROPLINE_*` variable or a URL is wrong.
        LocalStackError: the model does not exist, or an external server cannot be used.
    """
    load_settings()
    check_model(options.model)
    if options.flower:
        check_flower()
    if options.database_url is not None:
        check_postgres(options.database_url)
    if options.redis_url is not None:
        check_redis(options.redis_url)


def check_model(model: str) -> None:
    """Checks that `model` is a hub name or a directory with weights; loading in the worker checks the rest.

    Raises:
        LocalStackError: `model` is neither.
    """
    if model in (DEMO_MODEL, BASE_MODEL, STUB_MODEL):
        return
    path = Path(model)
    if path.is_dir():
        if not any(path.glob("*.safetensors")):
            raise LocalStackError(f"--model: the directory {model} holds no *.safetensors file.")
    elif path.exists():
        raise LocalStackError(f"--model: {model} is a file; give the directory that holds the checkpoint.")
    elif model.startswith((".", "/", "~")) or model.count("/") != 1:
        raise LocalStackError(
            f"--model: {model!r} is neither a directory, nor a hub name such as {DEFAULT_CHECKPOINT}, "
            f"nor {DEMO_MODEL!r}, {BASE_MODEL!r} or {STUB_MODEL!r}."
        )


def check_flower() -> None:
    """Checks that the extra `flower` is installed.

    Raises:
        MissingBinaryError: the extra is not installed.
    """
    # find_spec, not an import: Flower's options are defined on import.
    if find_spec("flower") is None:
        raise MissingBinaryError("--flower: Flower is not installed; run: pip install 'dropline[flower]'")


def check_postgres(url: str) -> None:
    """Logs in to an external Postgres.

    Raises:
        SettingsError: `url` is not a Postgres URL.
        LocalStackError: Postgres does not answer, or refuses the login.
    """
    address = check_postgres_url(url, "--database-url")
    try:
        psycopg.connect(address, connect_timeout=_TIMEOUT_S).close()
    except psycopg.ProgrammingError as error:
        raise refused_address("--database-url", str(error)) from None
    except psycopg.Error as error:
        reason = " ".join(str(error).split())
        raise LocalStackError(f"The Postgres of --database-url cannot be used: {reason}") from error


def check_redis(url: str) -> None:
    """Sends a PING to an external Redis.

    Raises:
        SettingsError: `url` is not a Redis URL.
        LocalStackError: Redis does not answer, or refuses the login.
    """
    address = check_redis_url(url, "--redis-url")
    retry = Retry(NoBackoff(), 0)
    try:
        with Redis.from_url(
            address, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S, retry=retry
        ) as client:
            client.ping()
    except (RedisError, OSError) as error:
        reason = " ".join(str(error).split())
        raise LocalStackError(f"The Redis of --redis-url cannot be used: {reason}") from error
