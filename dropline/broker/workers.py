"""The workers that are alive: those whose named connection to Redis is open. Without Celery, as `reading`.

A worker connects once its engine is ready. Redis lists the connection until the process ends, a killed process
included, so the list needs no heartbeat. A worker that stops is listed until its last image is finished.
"""

import uuid
from dataclasses import dataclass

from dropline.broker.errors import explained
from dropline.broker.reading import open_reader
from dropline.settings import BrokerSettings

_PREFIX = "dropline-worker-"


@dataclass(frozen=True, slots=True)
class AliveWorkers:
    """The workers with a connection to Redis."""

    #: As in the column `name` of the table `workers`.
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class NotListed:
    """Redis is reachable, and does not list its connections to this user."""

    reason: str


def new_worker_name() -> str:
    """A name for one start of a worker."""
    return f"{_PREFIX}{uuid.uuid4().hex}"


def read_workers(settings: BrokerSettings) -> AliveWorkers | NotListed:
    """The alive workers, by one CLIENT LIST; where the list names none, a CLIENT SETNAME checks that it could.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Redis.
        BrokerUnavailable: Redis is unreachable, or its client library is not installed.
    """
    with open_reader(settings, "the list of workers") as client:
        from redis import ResponseError

        command = "CLIENT LIST"
        try:
            listed = (connection.get("name", "") for connection in client.client_list())
            names = frozenset(name for name in listed if name.startswith(_PREFIX))
            if not names:
                # Where Redis takes no names, the connections of workers have none.
                command = "CLIENT SETNAME"
                client.client_setname("")
        except ResponseError as error:
            # Refused by an access control list, or unknown to a proxy or to a managed Redis.
            return NotListed(f"Redis refuses {command} ({explained(error)})")
    return AliveWorkers(names)
