"""What is looked at before anything starts, so that a slip of the user's is named as such."""

from pathlib import Path

import psycopg
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from dropline.errors import LocalStackError, SettingsError
from dropline.settings import DEFAULT_CHECKPOINT, check_postgres_url, load_settings
from local_emulators.options import DEMO_MODEL, STUB_MODEL, StackOptions

#: Longest wait for a server of the user's own.
_TIMEOUT_S = 5


def check(options: StackOptions) -> None:
    """Refuses what could only fail later, and less clearly.

    Raises:
        SettingsError: a `DROPLINE_*` variable is wrong, or a URL is none.
        LocalStackError: the model is not there, or a server of the user's own does not answer.
    """
    load_settings()
    check_model(options.model)
    if options.database_url is not None:
        check_postgres(options.database_url)
    if options.redis_url is not None:
        check_redis(options.redis_url)


def check_model(model: str) -> None:
    """Whether a model that is no hub name is there; the worker, which loads it, looks closer.

    Raises:
        LocalStackError: it is not.
    """
    if model in (DEMO_MODEL, STUB_MODEL):
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
            f"nor {DEMO_MODEL!r} or {STUB_MODEL!r}."
        )


def check_postgres(url: str) -> None:
    """Whether one can log in to the user's own Postgres.

    Raises:
        SettingsError: the URL is none of Postgres.
        LocalStackError: it does not answer, or refuses.
    """
    address = check_postgres_url(url, "--database-url")
    try:
        psycopg.connect(address, connect_timeout=_TIMEOUT_S).close()
    except psycopg.Error as error:
        told = " ".join(str(error).split())
        raise LocalStackError(f"The Postgres of --database-url cannot be used: {told}") from error


def check_redis(url: str) -> None:
    """Whether the user's own Redis answers.

    Raises:
        SettingsError: the URL is none of Redis.
        LocalStackError: it does not answer, or refuses.
    """
    try:
        client = Redis.from_url(
            url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
    except ValueError as error:
        raise SettingsError("--redis-url must look like redis://:password@host:port/0") from error
    try:
        with client:
            client.ping()
    except RedisError as error:
        raise LocalStackError(f"The Redis of --redis-url cannot be used: {error}") from error
