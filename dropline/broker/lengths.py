"""Numbers of messages on Redis. Without Celery: the command line imports the module and has to start fast."""

from dataclasses import dataclass

from dropline.broker.reading import open_reader
from dropline.contract import CAPTION_QUEUE
from dropline.settings import BrokerSettings

#: Kombu's hash of messages taken by workers and not yet acknowledged.
_UNACKNOWLEDGED = "unacked"


@dataclass(frozen=True, slots=True)
class QueueLengths:
    """Numbers of messages."""

    #: On the queue of captions.
    captions: int
    #: Taken by workers and not yet acknowledged.
    unacknowledged: int


def read_lengths(settings: BrokerSettings) -> QueueLengths:
    """Count the messages on Redis.

    Raises:
        SettingsError: no URL is set, or the URL is not one of Redis.
        BrokerUnavailable: Redis is unreachable, or its client library is not installed.
    """
    with open_reader(settings, "the queue") as client:
        return QueueLengths(
            captions=int(client.llen(CAPTION_QUEUE)),
            unacknowledged=int(client.hlen(_UNACKNOWLEDGED)),
        )
