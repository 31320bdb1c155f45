"""The times at which the storage emulator published its events, read after the measurement."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from google.api_core.exceptions import DeadlineExceeded
from google.pubsub_v1 import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import Subscription

from benchmarks.checks import RunInvalidError
from local_emulators.options import PROJECT, TOPIC
from local_emulators.subscriptions import open_channel

_NAME = f"projects/{PROJECT}/subscriptions/dropline-benchmark"
_MOST = 1_000
#: Longest wait for a missing event, in seconds.
_WAIT_S = 20.0


class Publications:
    """A subscription that keeps the events of the topic from its creation on; nothing is pulled before `times`."""

    def __init__(self, pubsub_host: str) -> None:
        """Create the subscription on the emulator at `pubsub_host` (host:port)."""
        self._host = pubsub_host
        topic = f"projects/{PROJECT}/topics/{TOPIC}"
        with open_channel(self._host) as channel:
            client = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
            client.create_subscription(Subscription(name=_NAME, topic=topic, ack_deadline_seconds=600))

    def times(self, names: Collection[str]) -> Mapping[str, datetime]:
        """Object name → the time at which Pub/Sub took its event, by the system's clock.

        Raises:
            RunInvalidError: the event of an object is missing.
        """
        found: dict[str, datetime] = {}
        with open_channel(self._host) as channel:
            client = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
            while missing := set(names) - set(found):
                try:
                    received = client.pull(
                        subscription=_NAME, max_messages=_MOST, timeout=_WAIT_S
                    ).received_messages
                except DeadlineExceeded:
                    received = []
                if not received:
                    raise RunInvalidError(f"Pub/Sub has no event of {min(missing)!r}")
                for each in received:
                    # A `datetime`, unlike its declared type.
                    published: Any = each.message.publish_time
                    found.setdefault(each.message.attributes["objectId"], published)
        return {name: found[name] for name in names}
