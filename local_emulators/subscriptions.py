"""Creates the topic, the push subscription, and the dead-letter topic with a subscription, as in the cloud.

As a program, for `compose.yaml`: `python -m local_emulators.subscriptions --pubsub HOST:PORT --push-endpoint URL`.
"""

import argparse
import contextlib
from collections.abc import Iterator

import grpc
from google.api_core.exceptions import AlreadyExists
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import PublisherClient, SubscriberClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport
from google.pubsub_v1.types import DeadLetterPolicy, PushConfig, RetryPolicy, Subscription

from dropline.errors import LocalStackError
from local_emulators.options import (
    DEAD_LETTER_SUBSCRIPTION,
    DEAD_LETTER_TOPIC,
    PROJECT,
    SUBSCRIPTION,
    TOPIC,
)

#: Pub/Sub's maximum: an outage on a laptop must not turn events into dead letters.
_MAX_DELIVERY_ATTEMPTS = 100
_BACKOFF_S = (1, 10)
#: Also the timeout of a push request; the function responds within 3 s.
_ACK_DEADLINE_S = 30
#: Longest wait for an emulator, in seconds: under Docker Compose the emulator may still be starting.
_REACHABLE_S = 60


def create_subscriptions(host: str, push_endpoint: str) -> None:
    """Creates the topics and subscriptions on the emulator at `host`; existing ones stay unchanged.

    Raises:
        LocalStackError: no emulator answers at `host`.
    """
    topic, dead_letters = (f"projects/{PROJECT}/topics/{name}" for name in (TOPIC, DEAD_LETTER_TOPIC))
    push_subscription, dead_letter_subscription = (
        f"projects/{PROJECT}/subscriptions/{name}" for name in (SUBSCRIPTION, DEAD_LETTER_SUBSCRIPTION)
    )
    with open_channel(host) as channel:
        publisher = PublisherClient(transport=PublisherGrpcTransport(channel=channel))
        subscriber = SubscriberClient(transport=SubscriberGrpcTransport(channel=channel))
        for name in (dead_letters, topic):
            with contextlib.suppress(AlreadyExists):
                publisher.create_topic(name=name)
        for subscription in (
            Subscription(name=dead_letter_subscription, topic=dead_letters),
            _push_subscription(push_subscription, topic, dead_letters, push_endpoint),
        ):
            with contextlib.suppress(AlreadyExists):
                subscriber.create_subscription(subscription)


def _push_subscription(name: str, topic: str, dead_letters: str, push_endpoint: str) -> Subscription:
    minimum, maximum = (Duration(seconds=seconds) for seconds in _BACKOFF_S)
    return Subscription(
        name=name,
        topic=topic,
        push_config=PushConfig(push_endpoint=push_endpoint),
        ack_deadline_seconds=_ACK_DEADLINE_S,
        retry_policy=RetryPolicy(minimum_backoff=minimum, maximum_backoff=maximum),
        dead_letter_policy=DeadLetterPolicy(
            dead_letter_topic=dead_letters, max_delivery_attempts=_MAX_DELIVERY_ATTEMPTS
        ),
    )


@contextlib.contextmanager
def open_channel(host: str) -> Iterator[grpc.Channel]:
    """A connection to the emulator at `host`, which is waited for.

    Raises:
        LocalStackError: no emulator answers at `host`.
    """
    # Ignore proxy settings: the emulator runs on this machine or in the same Compose network.
    with grpc.insecure_channel(host, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=_REACHABLE_S)
        except grpc.FutureTimeoutError as error:
            raise LocalStackError(
                f"No Pub/Sub emulator answers at {host} after {_REACHABLE_S} s. Start it, or correct the address."
            ) from error
        yield channel


def main() -> None:
    """Creates the topics and subscriptions with the arguments of the command line."""
    parser = argparse.ArgumentParser(description="Creates Dropline's topics and subscriptions on an emulator.")
    parser.add_argument("--pubsub", required=True, metavar="HOST:PORT", help="the emulator")
    parser.add_argument("--push-endpoint", required=True, metavar="URL", help="the URL of the function")
    arguments = parser.parse_args()
    create_subscriptions(arguments.pubsub, arguments.push_endpoint)


if __name__ == "__main__":
    main()
