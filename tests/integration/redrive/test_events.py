"""Dead letters of Pub/Sub: their subscription is switched to push to the function, and back to pull."""

import base64
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any

import psycopg
import pytest

from dropline.contract import NOTIFY_CHANNEL, ObjectVersion
from local_emulators.application import ServiceEnvironment, start_function
from local_emulators.ports import HOST, free_ports
from local_emulators.process import Command, process_environment, python_path
from local_emulators.supervisor import Service
from tests.support.deliveries import push
from tests.support.failpoints import inferences
from tests.support.pubsub import Pubsub
from tests.support.worker_rig import DEADLINE_S, Rig, png

AUDIENCE = "dropline-push"
PUSHER = "push@test.iam.gserviceaccount.com"


@dataclass
class Route:
    """Topics and subscriptions as in the cloud: topic, push subscription, dead-letter topic and subscription."""

    pubsub: Pubsub
    function_url: str
    topic: str
    dead_letters: str
    kept: str

    def publish(self, version: ObjectVersion) -> None:
        """Publish the notification of a new object."""
        data, attributes = notification(version)
        self.pubsub.publish(self.topic, data, **attributes)

    def push_dead_letters(self) -> None:
        """Like `gcloud pubsub subscriptions modify-push-config` with endpoint, account and audience."""
        self.pubsub.subscriber.modify_push_config(
            subscription=self.kept, push_config=push_config(self.function_url)
        )

    def keep_dead_letters(self) -> None:
        """Like the same command with an empty endpoint."""
        self.pubsub.subscriber.modify_push_config(subscription=self.kept, push_config={})

    def push_the_rest(self) -> None:
        """Push until the subscription is empty: on a busy machine a push may be answered with 503."""
        deadline = monotonic() + DEADLINE_S
        self.keep_dead_letters()
        while left := self.pubsub.pull_once(self.kept, limit=10, timeout=3):
            assert monotonic() < deadline, f"still there: {left}"
            self.pubsub.set_deadline(self.kept, 0, *left)
            self.push_dead_letters()
            self.keep_dead_letters()


def push_config(url: str) -> dict[str, Any]:
    return {"push_endpoint": url, "oidc_token": {"service_account_email": PUSHER, "audience": AUDIENCE}}


def notification(version: ObjectVersion) -> tuple[bytes, dict[str, str]]:
    """Payload and attributes of a storage notification."""
    delivery = push(version.name, version.generation, bucket=version.bucket, contentType="image/png")
    message = json.loads(delivery.body)["message"]
    return base64.b64decode(message["data"]), message["attributes"]


@pytest.fixture
def ports() -> tuple[int, int, int]:
    """Ports of Pub/Sub, of the signing keys and of the function."""
    one, two, three = free_ports(3)
    return one, two, three


@pytest.fixture
def route(rig: Rig, ports: tuple[int, int, int]) -> Iterator[Route]:
    """Topics and subscriptions on an emulator with signed pushes."""
    port, keys_port, function_port = ports
    rig.supervisor.start(
        Command(
            name="pubsub",
            argv=(
                *(sys.executable, "-m", "local_emulators.pubsub"),
                *("--port", str(port), "--http-port", str(keys_port)),
            ),
            ready_lines=("pubsub emulator ready",),
            environment=process_environment(PYTHONPATH=python_path()),
        )
    )
    url = f"http://{HOST}:{function_port}/"
    with Pubsub.connect(f"{HOST}:{port}", "test") as pubsub:
        topic, dead_letters = pubsub.topic(), pubsub.topic()
        kept = pubsub.subscription(dead_letters)
        policy = {"dead_letter_topic": dead_letters, "max_delivery_attempts": 5}
        pubsub.subscription(topic, push_config=push_config(url), dead_letter_policy=policy)
        yield Route(pubsub, url, topic, dead_letters, kept)


@pytest.fixture
def function(rig: Rig, ports: tuple[int, int, int]) -> Callable[[str], Service]:
    """Starts the function for one bucket, with the check of push tokens."""

    def start(bucket: str) -> Service:
        environment = {
            "DROPLINE_EVENTS__BUCKETS": json.dumps([bucket]),
            "DROPLINE_PUSH__AUDIENCE": AUDIENCE,
            "DROPLINE_PUSH__SERVICE_ACCOUNT": PUSHER,
            "DROPLINE_PUSH__CERTS_URL": f"http://{HOST}:{ports[1]}/oauth2/v3/certs",
        }
        shared = ServiceEnvironment(rig.redis_url, rig.gcs_url, environment)
        return start_function(rig.supervisor, ports[2], shared, rig.database_url)

    return start


@contextmanager
def rows_of(rig: Rig) -> Iterator[Callable[[int], list[dict[str, Any]]]]:
    """Waits for `count` captioned rows; notifications count from the start of the block."""
    query = "SELECT * FROM captions ORDER BY object_name"
    with psycopg.connect(rig.database_url, autocommit=True, row_factory=psycopg.rows.dict_row) as connection:
        connection.execute(f"LISTEN {NOTIFY_CHANNEL}".encode())

        def wait(count: int) -> list[dict[str, Any]]:
            while True:
                rows = connection.execute(query.encode()).fetchall()
                if len(rows) >= count and all(row["metadata_written_at"] for row in rows):
                    return rows
                assert list(connection.notifies(timeout=DEADLINE_S, stop_after=1)), rows

        yield wait


def test_dead_letters_redriven_twice_have_one_row_and_one_caption_each(
    rig: Rig, route: Route, function: Callable[[str], Service]
) -> None:
    """Dead letters pushed twice to a corrected function have one row and one caption each."""
    versions = [rig.upload(f"{number}.png", png((number, 0, 4))) for number in range(4)]
    wrong = function("somebody-elses")
    for version in [*versions, *versions]:
        route.publish(version)
    letters = route.pubsub.pull(route.kept, 8)
    assert all("CloudPubSubDeadLetterSourceSubscription" in letter.message.attributes for letter in letters)
    route.pubsub.set_deadline(route.kept, 0, *letters)
    wrong.stop()
    function(rig.bucket)
    rig.worker()
    with rows_of(rig) as captioned:
        route.push_dead_letters()
        first = captioned(4)
        route.push_the_rest()
        for letter in letters:
            route.pubsub.publish(route.dead_letters, letter.message.data, **dict(letter.message.attributes))
        last = rig.upload("last.png", png((9, 9, 9)))
        data, attributes = notification(last)
        route.pubsub.publish(route.dead_letters, data, **attributes)
        route.push_dead_letters()
        rows = captioned(5)
        route.push_the_rest()
    assert rows[:4] == first
    assert [(row["object_name"], row["generation"]) for row in rows] == [
        (version.name, version.generation) for version in [*versions, last]
    ]
    assert {(row["status"], row["attempts"]) for row in rows} == {("captioned", 1)}
    assert sorted(inferences(rig.directory)) == ["000004", "010004", "020004", "030004", "090909"]
    assert rig.queue_length() == 0
