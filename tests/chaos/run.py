"""Carries out a plan, waits until the stack is at rest, and collects the data for the verdict."""

import io
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from time import monotonic

import grpc
import psycopg
import redis
from google.auth.credentials import AnonymousCredentials
from google.cloud.storage import Bucket, Client
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.types import PubsubMessage
from PIL import Image
from psycopg.rows import dict_row

from benchmarks.stack import Messages
from db.listen import listening
from dropline.settings import DatabaseSettings
from local_emulators.options import BUCKET, PROJECT, TOPIC
from tests.chaos.plan import Content, Fault, Upload
from tests.chaos.stage import Stage, open_stage
from tests.chaos.verdict import Aftermath
from tests.support.failpoints import inferences, lost_with_engines

#: Called with a line of progress.
Say = Callable[[str], None]

_ROWS = "SELECT count(*) FROM captions"
_UNFINISHED = "SELECT count(*) FROM captions WHERE status IN ('queued', 'running') OR lease_until IS NOT NULL"


def carry_out(
    plan: Sequence[Upload | Fault],
    directory: Path,
    seed: int,
    rest_s: float,
    say: Say,
    *,
    outage_s: float,
    looks_for_rows: bool = True,
) -> Aftermath:
    """Run the plan in `directory`.

    Args:
        plan: uploads and faults, in order.
        directory: for the state of the stack.
        seed: chooses the process that a fault hits.
        rest_s: longest wait until the stack is at rest, after the last step, in seconds.
        say: called with each line of progress.
        outage_s: duration of the faults that last, in seconds.
        looks_for_rows: False for the control.
    """
    with open_stage(directory, random.Random(seed), outage_s, looks_for_rows=looks_for_rows) as stage:
        uploads = _perform(plan, stage, say, rest_s)
        say("everything is uploaded, and nothing more will be killed")
        rested = _wait_for_rest(stage, len(uploads), rest_s)
        for end in stage.workers.ends:
            say(f"a worker has ended by itself, and was started again: {end}")
        say("at rest" if rested else f"not at rest after {rest_s:g} s")
        stage.workers.stop()
        return _look(stage, uploads)


def _perform(plan: Sequence[Upload | Fault], stage: Stage, say: Say, rest_s: float) -> dict[int, Upload]:
    uploads: dict[int, Upload] = {}
    with _bucket(stage) as bucket, _publisher(stage) as publisher, ThreadPoolExecutor(1) as attacker:
        attack: Future[None] | None = None
        for number, step in enumerate(plan):
            if isinstance(step, Upload):
                generation = _upload(bucket, step)
                uploads[generation] = step
                if step.repeated:
                    publisher(step.name, generation)
                continue
            if attack:
                attack.result()  # a single attack at a time; uploads go on meanwhile
            say(f"{number + 1}/{len(plan)}: {step}")
            if step is Fault.POOL_SLEEPS:
                slept = stage.workers.wait_asleep(rest_s)
                assert slept, f"the worker pool did not scale to zero within {rest_s:g} s"
                continue
            if step is Fault.ALL_LOST:
                _wait_for_rows(stage, len(uploads), rest_s)
            attack = attacker.submit(stage.inflict, step)
        if attack:
            attack.result()
    return uploads


def _upload(bucket: Bucket, upload: Upload) -> int:
    blob = bucket.blob(upload.name)
    blob.upload_from_string(_bytes(upload), content_type="image/png")
    assert blob.generation is not None
    return int(blob.generation)


def _bytes(upload: Upload) -> bytes:
    if upload.content is Content.WORDS:
        return b"these are words, not pixels: " + upload.caption.encode()
    file = io.BytesIO()
    Image.new("RGB", (40, 30), tuple(upload.color.to_bytes(3))).save(file, "PNG")
    return file.getvalue()


@contextmanager
def _bucket(stage: Stage) -> Iterator[Bucket]:
    options = {"api_endpoint": stage.stack.environment["STORAGE_EMULATOR_HOST"]}
    client = Client(project=PROJECT, credentials=AnonymousCredentials(), client_options=options)
    with closing(client):
        yield client.bucket(BUCKET)


@contextmanager
def _publisher(stage: Stage) -> Iterator[Callable[[str, int], None]]:
    """Publishes the event of an object again, with a new message id and without a payload."""
    host = stage.stack.environment["PUBSUB_EMULATOR_HOST"]
    with grpc.insecure_channel(host, options=[("grpc.enable_http_proxy", 0)]) as channel:
        client = PublisherClient(transport=PublisherGrpcTransport(channel=channel))

        def publish(name: str, generation: int) -> None:
            attributes = {
                "eventType": "OBJECT_FINALIZE",
                "payloadFormat": "NONE",
                "bucketId": BUCKET,
                "objectId": name,
                "objectGeneration": str(generation),
            }
            message = PubsubMessage(attributes=attributes)
            client.publish(topic=f"projects/{PROJECT}/topics/{TOPIC}", messages=[message])

        yield publish


def _wait_for_rows(stage: Stage, versions: int, timeout_s: float) -> bool:
    """Whether every version has a row."""
    return _wait_for(stage, timeout_s, lambda database: _number(database, _ROWS) >= versions)


def _wait_for_rest(stage: Stage, versions: int, timeout_s: float) -> bool:
    """Whether every version has a row, and every row is finished."""
    return _wait_for(
        stage,
        timeout_s,
        lambda database: _number(database, _ROWS) >= versions and _number(database, _UNFINISHED) == 0,
    )


def _wait_for(stage: Stage, timeout_s: float, condition: Callable[[psycopg.Connection], bool]) -> bool:
    url = stage.stack.environment["DATABASE_URL"]
    settings = DatabaseSettings.model_validate({"url": url})
    deadline = monotonic() + timeout_s
    with listening(settings, "chaos") as listener, psycopg.connect(url, autocommit=True) as database:
        while True:
            if condition(database):
                return True
            if monotonic() >= deadline:
                return False
            next(iter(listener.notices(deadline - monotonic())), None)


def _number(database: psycopg.Connection, query: str) -> int:
    row = database.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def _look(stage: Stage, uploads: dict[int, Upload]) -> Aftermath:
    environment = stage.stack.environment
    with psycopg.connect(environment["DATABASE_URL"], row_factory=dict_row) as database:
        rows = database.execute("SELECT * FROM captions").fetchall()
    with _bucket(stage) as bucket:
        metadata = {blob.name: dict(blob.metadata or {}) for blob in bucket.list_blobs()}
    url = environment["DROPLINE_BROKER__URL"]
    with closing(Messages(url)) as messages, redis.Redis.from_url(url) as broker:
        left = sorted(messages.rows().elements())
        unacknowledged = broker.hlen("unacked")
    return Aftermath(
        uploads,
        rows,
        metadata,
        left,
        unacknowledged,
        inferences(stage.failpoints),
        len(lost_with_engines(stage.failpoints)),
        stage.workers.sleeps,
    )
