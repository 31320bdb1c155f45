"""What Dropline relies on in Pub/Sub: one suite, run against our emulator and, where it is installed, Google's.

Where Google's emulator differs from Pub/Sub itself, the test says so and is expected to fail there, so that the
day it changes is noticed. docs/pubsub-emulator.md lists the differences.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from google.api_core.exceptions import (
    AlreadyExists,
    FailedPrecondition,
    GoogleAPICallError,
    InvalidArgument,
    NotFound,
    OutOfRange,
)
from google.cloud.pubsub_v1.subscriber.message import Message
from google.pubsub_v1.services.publisher import PublisherClient as PlainPublisherClient
from google.pubsub_v1.services.subscriber import SubscriberClient as PlainSubscriberClient

from local_emulators import pubsub_process
from local_emulators.errors import MissingBinaryError
from local_emulators.ports import free_ports
from local_emulators.pubsub.google import google_emulator_command
from local_emulators.supervisor import Supervisor
from tests.support.pubsub import PATIENCE, Pubsub, PushEndpoint, PushRequest

Differs = Callable[[str], None]


@pytest.fixture(scope="module", params=["own", "google"])
def flavour(request: pytest.FixtureRequest) -> str:
    """Whose emulator runs."""
    if request.param == "google":
        try:
            google_emulator_command("127.0.0.1", 1)
        except MissingBinaryError as error:
            pytest.skip(str(error))
    return str(request.param)


@pytest.fixture(scope="module")
def host(flavour: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running emulator's HOST:PORT."""
    directory: Path = tmp_path_factory.mktemp(flavour)
    with Supervisor(directory) as supervisor:
        yield pubsub_process.start(supervisor, free_ports(1)[0], "google" if flavour == "google" else "own").host


@pytest.fixture
def pubsub(host: str, request: pytest.FixtureRequest) -> Iterator[Pubsub]:
    """Clients, and a project for this test alone."""
    with Pubsub.connect(host, f"test-{abs(hash(request.node.nodeid))}") as connected:
        yield connected


@pytest.fixture
def google_differs(flavour: str, request: pytest.FixtureRequest) -> Differs:
    """Declares that Google's emulator is known to fail this test, and why."""

    def declare(reason: str) -> None:
        if flavour == "google":
            request.applymarker(pytest.mark.xfail(reason=f"Google's emulator: {reason}", strict=True))

    return declare


@pytest.fixture
def endpoint() -> Iterator[PushEndpoint]:
    """An endpoint that acknowledges everything."""
    with PushEndpoint(lambda _request: 204) as running:
        yield running


# Topics and subscriptions as resources


def test_topic_lives_and_dies(pubsub: Pubsub) -> None:
    """A topic can be made, read and deleted, and is gone then."""
    topic = pubsub.topic()
    assert pubsub.publisher.get_topic(topic=topic).name == topic
    pubsub.publisher.delete_topic(topic=topic)
    with pytest.raises(NotFound):
        pubsub.publisher.get_topic(topic=topic)


def test_lists_are_paged_and_by_project(pubsub: Pubsub) -> None:
    """Every topic and subscription of a project is listed once, whatever the page size, and no other project's."""
    topics = [pubsub.topic() for _ in range(5)]
    subscriptions = [pubsub.subscription(topics[0]) for _ in range(5)]
    pubsub.publisher.create_topic(name=f"{pubsub.project}-other/topics/elsewhere")
    listed = pubsub.publisher.list_topics(request={"project": pubsub.project, "page_size": 2})
    assert sorted(topic.name for topic in listed) == sorted(topics)
    found = pubsub.subscriber.list_subscriptions(request={"project": pubsub.project, "page_size": 2})
    assert sorted(subscription.name for subscription in found) == sorted(subscriptions)
    attached = pubsub.publisher.list_topic_subscriptions(request={"topic": topics[0], "page_size": 2})
    assert sorted(attached) == sorted(subscriptions)
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topics[1])) == []


def test_subscription_lives_and_dies(pubsub: Pubsub) -> None:
    """A subscription keeps its settings, gets its defaults, and is gone once deleted."""
    topic, dead = pubsub.topic(), pubsub.topic()
    name = pubsub.subscription(
        topic,
        ack_deadline_seconds=30,
        dead_letter_policy={"dead_letter_topic": dead},
        retry_policy={"minimum_backoff": {"seconds": 1}},
        push_config={"push_endpoint": "http://127.0.0.1:9/push"},
    )
    found = pubsub.subscriber.get_subscription(subscription=name)
    assert (found.topic, found.ack_deadline_seconds) == (topic, 30)
    assert found.dead_letter_policy.max_delivery_attempts == 5
    assert (found.retry_policy.minimum_backoff.seconds, found.retry_policy.maximum_backoff.seconds) == (1, 600)
    assert found.push_config.push_endpoint == "http://127.0.0.1:9/push"
    pubsub.subscriber.delete_subscription(subscription=name)
    with pytest.raises(NotFound):
        pubsub.subscriber.get_subscription(subscription=name)


def test_names_are_taken_once(pubsub: Pubsub) -> None:
    """Creating what exists is AlreadyExists, for topics and for subscriptions."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with pytest.raises(AlreadyExists):
        pubsub.publisher.create_topic(name=topic)
    with pytest.raises(AlreadyExists):
        pubsub.subscriber.create_subscription(name=subscription, topic=topic)


def test_missing_resources_are_not_found(pubsub: Pubsub) -> None:
    """Every operation on what does not exist is NotFound."""
    topic, subscription = pubsub.new_name("topics"), pubsub.new_name("subscriptions")
    operations: list[Callable[[], Any]] = [
        lambda: pubsub.publisher.delete_topic(topic=topic),
        lambda: pubsub.publisher.publish(topic, b"x").result(timeout=PATIENCE),
        lambda: pubsub.subscriber.create_subscription(name=subscription, topic=topic),
        lambda: pubsub.subscriber.delete_subscription(subscription=subscription),
        lambda: pubsub.subscriber.pull(subscription=subscription, max_messages=1),
        lambda: pubsub.subscriber.modify_push_config(subscription=subscription, push_config={}),
        lambda: pubsub.subscription(pubsub.topic(), dead_letter_policy={"dead_letter_topic": topic}),
    ]
    for operation in operations:
        with pytest.raises(NotFound):
            operation()


@pytest.mark.parametrize("name", ["topic", "projects/p/topics/ab", "projects/p/topics/goog-topic"])
def test_invalid_names_are_refused(pubsub: Pubsub, name: str) -> None:
    """A name of the wrong shape is InvalidArgument."""
    with pytest.raises(InvalidArgument):
        pubsub.publisher.create_topic(name=name)


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"ack_deadline_seconds": 601}, InvalidArgument),
        ({"push_config": {"push_endpoint": "nonsense"}}, InvalidArgument),
        ({"retry_policy": {"minimum_backoff": {"seconds": 601}}}, InvalidArgument),
    ],
)
def test_invalid_settings_are_refused(
    pubsub: Pubsub, settings: dict[str, Any], error: type[GoogleAPICallError]
) -> None:
    """A setting out of bounds is refused, and the subscription does not exist."""
    with pytest.raises(error):
        pubsub.subscription(pubsub.topic(), **settings)
    assert list(pubsub.subscriber.list_subscriptions(project=pubsub.project)) == []


@pytest.mark.parametrize("attempts", [4, 101])
def test_attempts_out_of_bounds_are_refused(pubsub: Pubsub, attempts: int) -> None:
    """A dead-letter policy allows 5 to 100 attempts."""
    topic = pubsub.topic()
    with pytest.raises(OutOfRange):
        pubsub.subscription(
            topic, dead_letter_policy={"dead_letter_topic": topic, "max_delivery_attempts": attempts}
        )


def test_short_deadline_is_refused(pubsub: Pubsub, google_differs: Differs) -> None:
    """A subscription's own acknowledgement deadline is at least 10 seconds."""
    google_differs("takes any deadline from 0 s on")
    with pytest.raises(InvalidArgument):
        pubsub.subscription(pubsub.topic(), ack_deadline_seconds=5)


def test_update_changes_what_the_mask_names(pubsub: Pubsub) -> None:
    """Only masked fields change; an empty mask, an unknown field and the topic are InvalidArgument."""
    name = pubsub.subscription(pubsub.topic(), retry_policy={"minimum_backoff": {"seconds": 1}})
    changes = {"name": name, "ack_deadline_seconds": 33}
    updated = pubsub.subscriber.update_subscription(
        subscription=changes, update_mask={"paths": ["ack_deadline_seconds"]}
    )
    assert (updated.ack_deadline_seconds, updated.retry_policy.minimum_backoff.seconds) == (33, 1)
    for paths in ([], ["bogus"], ["topic"]):
        with pytest.raises(InvalidArgument):
            pubsub.subscriber.update_subscription(subscription=changes, update_mask={"paths": paths})


def test_labels_can_be_updated(pubsub: Pubsub, google_differs: Differs) -> None:
    """Labels of topics and subscriptions are mutable."""
    google_differs("labels are no known field of an update")
    topic = pubsub.topic()
    updated = pubsub.publisher.update_topic(
        topic={"name": topic, "labels": {"a": "b"}}, update_mask={"paths": ["labels"]}
    )
    assert updated.labels == {"a": "b"}


def test_deleted_topic_leaves_its_subscription(pubsub: Pubsub) -> None:
    """The subscription says `_deleted-topic_` and still delivers what it has."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"left")
    pubsub.publisher.delete_topic(topic=topic)
    assert pubsub.subscriber.get_subscription(subscription=subscription).topic == "_deleted-topic_"
    assert pubsub.pull_payloads(subscription) == [b"left"]


def test_detached_subscription_refuses_to_deliver(pubsub: Pubsub, google_differs: Differs) -> None:
    """Detaching takes the subscription from its topic, and pulling fails."""
    google_differs("DetachSubscription is unimplemented")
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publisher.detach_subscription(request={"subscription": subscription})
    assert list(pubsub.publisher.list_topic_subscriptions(topic=topic)) == []
    with pytest.raises(FailedPrecondition):
        pubsub.subscriber.pull(subscription=subscription, max_messages=1)


# Publishing and pulling


def test_message_arrives_whole(pubsub: Pubsub) -> None:
    """Bytes, attributes, id and time of a message come out as they went in."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    message_id = pubsub.publish(topic, bytes(range(256)), eventType="OBJECT_FINALIZE", objectId="ü/😀?#.png")
    (received,) = pubsub.pull(subscription)
    assert received.message.data == bytes(range(256))
    assert received.message.attributes == {"eventType": "OBJECT_FINALIZE", "objectId": "ü/😀?#.png"}
    assert received.message.message_id == message_id
    assert received.message.publish_time.timestamp() > 0
    assert received.delivery_attempt == 0


def test_message_of_attributes_alone(pubsub: Pubsub) -> None:
    """A message needs no data when it has attributes."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, k="v")
    (received,) = pubsub.pull(subscription)
    assert (received.message.data, received.message.attributes) == (b"", {"k": "v"})


def test_empty_message_is_refused(pubsub: Pubsub) -> None:
    """Neither data nor attributes is InvalidArgument."""
    topic = pubsub.topic()
    with pytest.raises(InvalidArgument):
        pubsub.publish(topic)


def test_large_message_passes(pubsub: Pubsub) -> None:
    """A payload beyond gRPC's usual 4 MiB comes through."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x" * 9_000_000)
    (received,) = pubsub.pull(subscription)
    assert len(received.message.data) == 9_000_000


def test_long_attribute_value_is_refused(pubsub: Pubsub, google_differs: Differs) -> None:
    """An attribute's value has at most 1024 bytes."""
    google_differs("does not check attributes")
    topic = pubsub.topic()
    with pytest.raises(InvalidArgument):
        pubsub.publish(topic, b"x", k="v" * 1025)


def test_every_subscription_gets_its_copy(pubsub: Pubsub) -> None:
    """Acknowledging on one subscription does nothing to another."""
    topic = pubsub.topic()
    subscriptions = [pubsub.subscription(topic) for _ in range(3)]
    pubsub.publish(topic, b"x")
    assert [pubsub.pull_payloads(subscription) for subscription in subscriptions] == [[b"x"]] * 3


def test_batch_keeps_its_messages_apart(pubsub: Pubsub) -> None:
    """A request of many messages gives as many ids, and every message arrives."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    messages = [{"data": str(number).encode()} for number in range(100)]
    response = PlainPublisherClient.publish(pubsub.publisher, topic=topic, messages=messages)
    assert len(set(response.message_ids)) == 100
    assert pubsub.pull_payloads(subscription, 100) == sorted(message["data"] for message in messages)


def test_pull_waits_for_a_message(pubsub: Pubsub) -> None:
    """A pull that is already waiting gets the message that comes then."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(pubsub.pull, subscription)
        pubsub.publish(topic, b"x")
        assert [received.message.data for received in waiting.result(timeout=PATIENCE)] == [b"x"]


def test_pull_of_nothing_is_refused(pubsub: Pubsub) -> None:
    """max_messages is positive."""
    subscription = pubsub.subscription(pubsub.topic())
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.pull(subscription=subscription, max_messages=0)


def test_acknowledged_message_never_returns(pubsub: Pubsub) -> None:
    """Of two messages with the same deadline, only the one that was not acknowledged comes again."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"acknowledged", b"forgotten"):
        pubsub.publish(topic, payload)
    received = pubsub.pull(subscription, 2)
    pubsub.set_deadline(subscription, 1, *received)
    pubsub.acknowledge(subscription, *(each for each in received if each.message.data == b"acknowledged"))
    assert pubsub.pull_payloads(subscription) == [b"forgotten"]


def test_given_back_message_returns(pubsub: Pubsub) -> None:
    """A deadline of 0 makes the message ready again, under another acknowledgement id."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x")
    (first,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 0, first)
    (second,) = pubsub.pull(subscription)
    assert second.message == first.message
    assert second.ack_id != first.ack_id


def test_own_deadline_redelivers(pubsub: Pubsub) -> None:
    """A message nobody answers for comes again after the subscription's own deadline."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, ack_deadline_seconds=10)
    pubsub.publish(topic, b"x")
    (first,) = pubsub.pull(subscription)
    (second,) = pubsub.pull(subscription)
    assert first.message.message_id == second.message.message_id


def test_extended_deadline_holds(pubsub: Pubsub) -> None:
    """Of two messages, the one whose deadline was moved far away stays out of sight while the other returns."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"kept", b"returned"):
        pubsub.publish(topic, payload)
    by_payload = {received.message.data: received for received in pubsub.pull(subscription, 2)}
    pubsub.set_deadline(subscription, 600, by_payload[b"kept"])
    pubsub.set_deadline(subscription, 1, by_payload[b"returned"])
    assert pubsub.pull_payloads(subscription) == [b"returned"]


def test_late_acknowledgement_is_void(pubsub: Pubsub) -> None:
    """An id from before a redelivery is accepted and does nothing."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    pubsub.publish(topic, b"x")
    (first,) = pubsub.pull(subscription)
    pubsub.set_deadline(subscription, 0, first)
    (second,) = pubsub.pull(subscription)
    pubsub.acknowledge(subscription, first)
    pubsub.set_deadline(subscription, 0, second)
    assert pubsub.pull_payloads(subscription) == [b"x"]


def test_foreign_ack_ids_are_refused(pubsub: Pubsub) -> None:
    """An id of another shape is InvalidArgument, for acknowledging and for moving a deadline."""
    subscription = pubsub.subscription(pubsub.topic())
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.acknowledge(subscription=subscription, ack_ids=["nonsense"])
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.modify_ack_deadline(
            subscription=subscription, ack_ids=["nonsense"], ack_deadline_seconds=10
        )


def test_many_publishers_and_pullers(pubsub: Pubsub) -> None:
    """Publishers and pullers at once: every message comes, and once only while all are answered in time."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, ack_deadline_seconds=600)
    payloads = [str(number).encode() for number in range(400)]
    with ThreadPoolExecutor(12) as pool:
        pulls = [pool.submit(pubsub.pull_payloads, subscription, 100) for _ in range(4)]
        list(pool.map(lambda payload: pubsub.publish(topic, payload), payloads))
        received = [payload for pull in pulls for payload in pull.result(timeout=PATIENCE)]
    assert sorted(received) == sorted(payloads)


# Filters


def test_filter_selects_by_attributes(pubsub: Pubsub, google_differs: Differs) -> None:
    """Only messages whose attributes match are delivered."""
    google_differs("stores a filter and delivers every message all the same")
    topic = pubsub.topic()
    subscription = pubsub.subscription(
        topic, filter='hasPrefix(attributes.objectId, "in/") AND NOT attributes.eventType = "OBJECT_DELETE"'
    )
    for event_type, object_id in [
        ("OBJECT_DELETE", "in/a"),
        ("OBJECT_FINALIZE", "out/a"),
        ("OBJECT_FINALIZE", "in/b"),
    ]:
        pubsub.publish(topic, f"{event_type} {object_id}".encode(), eventType=event_type, objectId=object_id)
    assert pubsub.pull_payloads(subscription) == [b"OBJECT_FINALIZE in/b"]


def test_invalid_filter_is_refused(pubsub: Pubsub, google_differs: Differs) -> None:
    """A filter that cannot be parsed is InvalidArgument."""
    google_differs("takes any text for a filter")
    with pytest.raises(InvalidArgument):
        pubsub.subscription(pubsub.topic(), filter='attributes.a = "x" AND')


def test_filter_cannot_change(pubsub: Pubsub) -> None:
    """A subscription's filter is immutable."""
    subscription = pubsub.subscription(pubsub.topic(), filter="attributes:a")
    with pytest.raises(InvalidArgument):
        pubsub.subscriber.update_subscription(
            subscription={"name": subscription, "filter": "attributes:b"}, update_mask={"paths": ["filter"]}
        )


# Streaming pull


def test_streaming_pull_delivers_everything(pubsub: Pubsub) -> None:
    """The real subscriber gets each of 500 messages."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    received: set[bytes] = set()
    complete = threading.Event()

    def callback(message: Message) -> None:
        received.add(message.data)
        message.ack()
        if len(received) == 500:
            complete.set()

    with pubsub.streaming(subscription, callback):
        futures = [pubsub.publisher.publish(topic, str(number).encode()) for number in range(500)]
        for future in futures:
            future.result(timeout=PATIENCE)
        assert complete.wait(PATIENCE)


def test_streaming_pull_redelivers_what_is_given_back(pubsub: Pubsub) -> None:
    """A message the callback gives back comes again on the same stream."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    deliveries: list[str] = []
    done = threading.Event()

    def callback(message: Message) -> None:
        deliveries.append(message.message_id)
        if len(deliveries) < 3:
            message.nack()
        else:
            message.ack()
            done.set()

    with pubsub.streaming(subscription, callback):
        message_id = pubsub.publish(topic, b"x")
        assert done.wait(PATIENCE)
    assert deliveries == [message_id] * 3


def test_streaming_pull_acknowledges_on_the_stream(pubsub: Pubsub) -> None:
    """Acknowledgements and deadlines may also travel on the stream itself."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"acknowledged", b"returned"):
        pubsub.publish(topic, payload)
    with open_stream(pubsub, subscription) as (send, responses):
        ack_ids: dict[bytes, str] = {}
        while len(ack_ids) < 2:
            ack_ids |= {each.message.data: each.ack_id for each in next(responses).received_messages}
        send(
            ack_ids=[ack_ids[b"acknowledged"]],
            modify_deadline_ack_ids=[ack_ids[b"returned"]],
            modify_deadline_seconds=[0],
        )
        assert [each.message.data for each in next(responses).received_messages] == [b"returned"]


def test_streaming_pull_honours_its_limit(pubsub: Pubsub, google_differs: Differs) -> None:
    """A stream that may hold one message gets the next one when it has answered for the first."""
    google_differs("sends more than max_outstanding_messages")
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    for payload in (b"1", b"2", b"3"):
        pubsub.publish(topic, payload)
    received: list[bytes] = []
    with open_stream(pubsub, subscription, max_outstanding_messages=1) as (_, responses):
        for _ in range(3):
            (message,) = next(responses).received_messages
            received.append(message.message.data)
            pubsub.acknowledge(subscription, message)
    assert sorted(received) == [b"1", b"2", b"3"]


def test_streaming_pull_ends_with_its_subscription(pubsub: Pubsub) -> None:
    """Deleting the subscription ends an open stream with NotFound."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic)
    arrived = threading.Event()

    def callback(message: Message) -> None:
        message.ack()
        arrived.set()

    with pubsub.streaming(subscription, callback) as stream:
        pubsub.publish(topic, b"x")
        assert arrived.wait(PATIENCE)
        pubsub.subscriber.delete_subscription(subscription=subscription)
        assert isinstance(stream.exception(timeout=PATIENCE), NotFound)


@pytest.mark.parametrize("seconds", [0, 9, 601])
def test_streaming_pull_needs_a_deadline(pubsub: Pubsub, seconds: int) -> None:
    """The first request of a stream sets a deadline of 10 to 600 seconds."""
    subscription = pubsub.subscription(pubsub.topic())
    with (
        pytest.raises(InvalidArgument),
        open_stream(pubsub, subscription, stream_ack_deadline_seconds=seconds) as (_, responses),
    ):
        next(responses)


@contextmanager
def open_stream(
    pubsub: Pubsub, subscription: str, **opening: Any
) -> Iterator[tuple[Callable[..., None], Iterator[Any]]]:
    """A bare StreamingPull: a function that sends a request, and the responses."""
    requests: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
    requests.put({"subscription": subscription, "stream_ack_deadline_seconds": 60} | opening)

    def send(**request: Any) -> None:
        requests.put(request)

    responses = PlainSubscriberClient.streaming_pull(
        pubsub.subscriber, requests=iter(requests.get, None), timeout=PATIENCE
    )
    try:
        yield send, iter(responses)
    finally:
        requests.put(None)
        responses.cancel()


# Push


def test_push_posts_the_envelope(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """The endpoint gets the documented JSON body at its path and query."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
    message_id = pubsub.publish(topic, b"\x00\xff", eventType="OBJECT_FINALIZE")
    (request,) = endpoint.take()
    message = request.body["message"]
    assert request.path == "/push?token=t"
    assert request.headers["content-type"] == "application/json"
    assert request.body["subscription"] == subscription
    assert (message["data"], message["attributes"]) == ("AP8=", {"eventType": "OBJECT_FINALIZE"})
    assert message["messageId"] == message["message_id"] == message_id
    assert message["publishTime"] == message["publish_time"]
    assert "deliveryAttempt" not in request.body


def test_push_of_attributes_alone_has_no_data(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """A message without a payload is pushed with its attributes, and no data in it."""
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
    pubsub.publish(topic, k="v")
    (request,) = endpoint.take()
    assert request.body["message"]["attributes"] == {"k": "v"}
    assert not request.body["message"].get("data")


@pytest.mark.parametrize("status", [102, 200, 201, 202, 204])
def test_push_is_acknowledged(pubsub: Pubsub, status: int, google_differs: Differs) -> None:
    """These statuses end a message's life: a later one that is refused once comes twice, the first never again."""
    if status == 202:
        google_differs("takes 202 for a refusal")
    topic = pubsub.topic()

    def answer(request: PushRequest) -> int:
        return 503 if request.number == 2 else status

    with PushEndpoint(answer) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, ack_deadline_seconds=10)
        pubsub.publish(topic, k="first")
        (first,) = endpoint.take()
        pubsub.publish(topic, k="second")
        again = endpoint.take(2)
    assert first.body["message"]["attributes"] == {"k": "first"}
    assert [request.body["message"]["attributes"] for request in again] == [{"k": "second"}] * 2


@pytest.mark.parametrize("status", [205, 206, 301, 400, 401, 404, 429, 500, 503])
def test_push_is_refused(pubsub: Pubsub, status: int) -> None:
    """Any other status brings the same message again until it is acknowledged."""
    topic = pubsub.topic()
    with PushEndpoint(lambda request: status if request.number < 3 else 204) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        message_id = pubsub.publish(topic, b"x")
        assert [request.body["message"]["messageId"] for request in endpoint.take(3)] == [message_id] * 3


def test_push_is_not_acknowledged_by_203(pubsub: Pubsub, google_differs: Differs) -> None:
    """203 is a refusal as 500 is: messages answered with either come again."""
    google_differs("takes 203 for an acknowledgement")
    topic = pubsub.topic()

    def answer(request: PushRequest) -> int:
        return int(request.body["message"]["attributes"]["status"])

    with PushEndpoint(answer) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        for status in ("203", "500"):
            pubsub.publish(topic, status=status)
        statuses = [request.body["message"]["attributes"]["status"] for request in endpoint.take(6)]
    assert statuses.count("203") >= 2


def test_push_by_retry_policy(pubsub: Pubsub) -> None:
    """A retry policy of a push subscription leads to redelivery too."""
    topic = pubsub.topic()
    policy = {"minimum_backoff": {"seconds": 1}, "maximum_backoff": {"seconds": 2}}
    with PushEndpoint(lambda request: 500 if request.number < 3 else 204) as endpoint:
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, retry_policy=policy)
        message_id = pubsub.publish(topic, b"x")
        assert [request.body["message"]["messageId"] for request in endpoint.take(3)] == [message_id] * 3


def test_push_to_nobody_is_tried_again(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """While no one listens the message waits; once the endpoint is right it arrives."""
    topic = pubsub.topic()
    subscription = pubsub.subscription(topic, push_config={"push_endpoint": "http://127.0.0.1:9/nobody"})
    message_id = pubsub.publish(topic, b"x")
    pubsub.subscriber.modify_push_config(subscription=subscription, push_config={"push_endpoint": endpoint.url})
    (request,) = endpoint.take()
    assert request.body["message"]["messageId"] == message_id


def test_push_of_many_at_once(pubsub: Pubsub, endpoint: PushEndpoint) -> None:
    """Of 300 messages each is pushed, and acknowledged ones are not pushed again."""
    topic = pubsub.topic()
    pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, ack_deadline_seconds=600)
    futures = [pubsub.publisher.publish(topic, str(number).encode()) for number in range(300)]
    message_ids = [future.result(timeout=PATIENCE) for future in futures]
    pushed = [request.body["message"]["messageId"] for request in endpoint.take(300)]
    assert sorted(pushed) == sorted(message_ids)


def test_push_subscription_becomes_a_pull_subscription(pubsub: Pubsub) -> None:
    """An empty push configuration stops the pushing, and what was refused can be pulled."""
    topic = pubsub.topic()
    with PushEndpoint(lambda _request: 500) as endpoint:
        subscription = pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        pubsub.publish(topic, b"x")
        endpoint.take()
        pubsub.subscriber.modify_push_config(subscription=subscription, push_config={})
        assert pubsub.pull_payloads(subscription) == [b"x"]


def test_push_subscription_cannot_be_pulled(
    pubsub: Pubsub, endpoint: PushEndpoint, google_differs: Differs
) -> None:
    """Pulling what is pushed is FailedPrecondition."""
    google_differs("waits, and answers with no messages")
    subscription = pubsub.subscription(pubsub.topic(), push_config={"push_endpoint": endpoint.url})
    with pytest.raises(FailedPrecondition):
        pubsub.pull_once(subscription)


# Dead letters


def dead_letter_subscription(pubsub: Pubsub, topic: str, **settings: Any) -> tuple[str, str]:
    """A subscription with a dead-letter policy of 5 attempts, and one that gets the dead letters."""
    dead = pubsub.topic()
    policy = {"dead_letter_topic": dead, "max_delivery_attempts": 5}
    return pubsub.subscription(topic, dead_letter_policy=policy, **settings), pubsub.subscription(dead)


def test_dead_letter_after_five_refusals(pubsub: Pubsub) -> None:
    """Deliveries are numbered; after the fifth refusal the message is on the dead-letter topic with its origin."""
    topic = pubsub.topic()
    subscription, dead = dead_letter_subscription(pubsub, topic)
    pubsub.publish(topic, b"x", k="v")
    for attempt in range(1, 6):
        (received,) = pubsub.pull(subscription)
        assert received.delivery_attempt == attempt
        pubsub.set_deadline(subscription, 0, received)
    assert pubsub.pull_once(subscription, timeout=1) == []
    (letter,) = pubsub.pull(dead)
    attributes = dict(letter.message.attributes)
    assert letter.message.data == b"x"
    assert letter.message.message_id != received.message.message_id
    assert attributes.pop("CloudPubSubDeadLetterSourceTopicPublishTime").endswith("Z")
    assert attributes == {
        "k": "v",
        "CloudPubSubDeadLetterSourceDeliveryCount": "5",
        "CloudPubSubDeadLetterSourceSubscription": subscription.rpartition("/")[2],
        "CloudPubSubDeadLetterSourceSubscriptionProject": pubsub.project.rpartition("/")[2],
    }


def test_pushed_dead_letter(pubsub: Pubsub) -> None:
    """A message the endpoint refuses five times becomes a dead letter and is pushed no more."""
    topic = pubsub.topic()
    with PushEndpoint(
        lambda request: 204 if "healthy" in request.body["message"]["attributes"] else 500
    ) as endpoint:
        _, dead = dead_letter_subscription(pubsub, topic, push_config={"push_endpoint": endpoint.url})
        message_id = pubsub.publish(topic, b"x", kind="poison")
        assert [request.body["message"]["messageId"] for request in endpoint.take(5)] == [message_id] * 5
        assert pubsub.pull_payloads(dead) == [b"x"]
        healthy = pubsub.publish(topic, b"y", healthy="yes")
        assert [request.body["message"]["messageId"] for request in endpoint.take()] == [healthy]


def test_pushed_attempts_are_told(pubsub: Pubsub, google_differs: Differs) -> None:
    """With a dead-letter policy the push body says which attempt this is."""
    google_differs("has no deliveryAttempt in the body")
    topic = pubsub.topic()
    with PushEndpoint(lambda request: 500 if request.number < 3 else 204) as endpoint:
        dead_letter_subscription(pubsub, topic, push_config={"push_endpoint": endpoint.url})
        pubsub.publish(topic, b"x")
        assert [request.body["deliveryAttempt"] for request in endpoint.take(3)] == [1, 2, 3]
