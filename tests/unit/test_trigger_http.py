"""The function's responses, through the real web framework, with fake effects."""

import json
from typing import Any

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from db.object_rows import RegisteredRow
from dropline.contract import FilterReason, ObjectVersion, Status
from dropline.deadline import START_WAIT_S, Deadline
from dropline.errors import (
    AccessDenied,
    BrokerUnavailable,
    DatabaseReadOnly,
    DatabaseUnavailable,
    DroplineError,
    SchemaOutdated,
    SettingsError,
    TransientError,
)
from dropline.selection import Accept, Reject, Selection
from dropline.settings import EventSettings
from dropline.task_list import written
from tests.support.deliveries import BUCKET, GENERATION, Delivery, binary_cloud_event, push, resource
from tests.support.function import deliver, serve
from trigger_fn.body import MAX_BODY_BYTES
from trigger_fn.endpoint import START_PROBE_S, Endpoint
from trigger_fn.events import ObjectEvent
from trigger_fn.intake import Intake
from trigger_fn.push_auth import Credentials, MissingToken, SigningKeysUnavailable, TokenRefused

VERSION = ObjectVersion(BUCKET, "cat.jpg", GENERATION)


class FakeEffects:
    """Rows and queue as a single list of calls, in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.status = Status.QUEUED
        self.created = True
        self.rows_away: TransientError | None = None
        self.queue_away: TransientError | None = None

    def register(self, event: ObjectEvent, accepted: Accept, deadline: Deadline) -> list[RegisteredRow]:
        return [self._row("register", event.version, written(accepted.tasks))]

    def reject(self, event: ObjectEvent, verdict: Reject, deadline: Deadline) -> RegisteredRow:
        self.status = Status.FAILED
        return self._row("reject", event.version, verdict.code)

    def record_deletion(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None:
        self._row("record_deletion", event.version, expected)

    def record_archival(self, event: ObjectEvent, *, expected: bool, deadline: Deadline) -> None:
        self._row("record_archival", event.version, expected)

    def count_filtered(self, event: ObjectEvent, reason: FilterReason, deadline: Deadline) -> None:
        self._row("count_filtered", event.version, reason)

    def enqueue(self, row_id: int, deadline: Deadline) -> None:
        if self.queue_away:
            raise self.queue_away
        self.calls.append(("enqueue", row_id))

    def _row(self, *call: Any) -> RegisteredRow:
        if self.rows_away:
            raise self.rows_away
        self.calls.append(call)
        return RegisteredRow(7, self.status, self.created)


@pytest.fixture
def effects() -> FakeEffects:
    """The calls made by the function."""
    return FakeEffects()


@pytest.fixture
def intake(effects: FakeEffects) -> Intake:
    """An intake of one bucket."""
    return Intake(Selection(EventSettings(buckets=(BUCKET,))), effects, effects)


@pytest.fixture
def app(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The function without token checks."""
    return serve(Endpoint(intake, None), monkeypatch)


@pytest.mark.parametrize("delivery", [push(), push(payload=False), binary_cloud_event()])
def test_a_new_object_row_first_then_the_message(app: Flask, effects: FakeEffects, delivery: Delivery) -> None:
    """The row is registered, then the message is sent, and then the event is acknowledged."""
    response = deliver(app, delivery)
    assert (response.status_code, response.data) == (204, b"")
    assert effects.calls == [("register", VERSION, "<CAPTION>"), ("enqueue", 7)]


@pytest.mark.parametrize("status", Status)
def test_a_known_row_is_enqueued_again_unless_it_is_done(app: Flask, effects: FakeEffects, status: Status) -> None:
    """A duplicate event repairs a crash between commit and enqueue, and enqueues no finished row."""
    effects.status, effects.created = status, False
    assert deliver(app, push()).status_code == 204
    assert (("enqueue", 7) in effects.calls) == (status in {Status.QUEUED, Status.RUNNING})


def test_an_empty_object_fails_without_a_message(app: Flask, effects: FakeEffects) -> None:
    """The row has the reason, and no message is sent."""
    assert deliver(app, push(size="0")).status_code == 204
    assert effects.calls == [("reject", VERSION, "empty_object")]


@pytest.mark.parametrize(
    ("fields", "expected"), [({}, True), ({"contentType": "text/plain"}, False)], ids=["image", "text"]
)
@pytest.mark.parametrize(
    ("event_type", "call"), [("OBJECT_DELETE", "record_deletion"), ("OBJECT_ARCHIVE", "record_archival")]
)
def test_the_end_of_a_version(
    app: Flask, effects: FakeEffects, event_type: str, call: str, fields: dict[str, Any], expected: bool
) -> None:
    """A deletion or archiving marks existing rows, and leaves a row only if an event may still arrive."""
    assert deliver(app, push(event_type=event_type, **fields)).status_code == 204
    assert effects.calls == [(call, VERSION, expected)]


def test_an_event_of_another_type_needs_nothing(app: Flask, effects: FakeEffects) -> None:
    """A change of metadata gets 204, no effect, no count, and a log line with the reason."""
    with capture_logs() as lines:
        assert deliver(app, push(event_type="OBJECT_METADATA_UPDATE")).status_code == 204
    assert effects.calls == []
    assert [(line["event"], line["reason"]) for line in lines] == [("event_skipped", "object_metadata_update")]


@pytest.mark.parametrize(
    ("delivery", "reason"),
    [
        (push("gsutil/tmp/parallel_composite_uploads/x"), FilterReason.EXCLUDED),
        (push("a/.gcsfuse_tmp/x.jpg"), FilterReason.AUXILIARY),
        (push("photos/", size="0"), FilterReason.FOLDER_PLACEHOLDER),
        (push(contentType="text/plain"), FilterReason.CONTENT_TYPE),
    ],
)
def test_a_filtered_object_is_counted(
    app: Flask, effects: FakeEffects, delivery: Delivery, reason: FilterReason
) -> None:
    """A filtered object has a count, no row, no message, and a log line with the rule and its setting."""
    with capture_logs() as lines:
        assert deliver(app, delivery).status_code == 204
    ((call, _, counted),) = effects.calls
    assert (call, counted) == ("count_filtered", reason)
    assert [(line["event"], line["reason"], line["setting"]) for line in lines] == [
        ("event_filtered", reason, reason.setting)
    ]


@pytest.mark.parametrize("content_type", ["binary/octet-stream", "application/jpg", "jpg", None])
def test_an_unknown_type_is_captioned(app: Flask, effects: FakeEffects, content_type: str | None) -> None:
    """A type that means "unknown", or is none, leads to a row and a message."""
    assert deliver(app, push(contentType=content_type)).status_code == 204
    assert [call[0] for call in effects.calls] == ["register", "enqueue"]


def test_a_filtered_object_without_postgres(app: Flask, effects: FakeEffects) -> None:
    """Without Postgres the event stays with Pub/Sub: an uncounted object would vanish without a trace."""
    effects.rows_away = DatabaseUnavailable("Postgres is away")
    response = deliver(app, push(contentType="text/plain"))
    assert (response.status_code, response.json) == (503, {"error": "database_unavailable"})


@pytest.mark.parametrize("body", [b"", b"{", push(data="!").body, push(generation="x").body, b"x" * 2_000_000])
def test_malformed(app: Flask, effects: FakeEffects, body: bytes) -> None:
    """A malformed event is acknowledged, because every delivery would be malformed; a log line has the error."""
    with capture_logs() as lines:
        response = deliver(app, Delivery(body))
    assert (response.status_code, effects.calls) == (204, [])
    assert [(line["event"], bool(line["error"])) for line in lines] == [("event_invalid", True)]


def test_a_body_may_come_in_chunks(app: Flask, effects: FakeEffects) -> None:
    """A body without Content-Length, in many short reads, gives the same event and has the same limit."""

    class Trickle:
        def __init__(self, body: bytes) -> None:
            self.rest = body

        def read(self, size: int = -1) -> bytes:
            count = min(size, 1000) if size >= 0 else len(self.rest)
            piece, self.rest = self.rest[:count], self.rest[count:]
            return piece

    environ = {"wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    for body in (push(metadata={"note": "x" * 5000}).body, b"x" * (MAX_BODY_BYTES + 1)):
        response = app.test_client().post("/", environ_overrides=environ | {"wsgi.input": Trickle(body)})
        assert response.status_code == 204
    assert effects.calls == [("register", VERSION, "<CAPTION>"), ("enqueue", 7)]


def test_an_unknown_format_is_refused(app: Flask, effects: FakeEffects) -> None:
    """An event in a format that is not read is not acknowledged: the dead-letter topic keeps the event."""
    with capture_logs() as lines:
        response = deliver(app, Delivery(json.dumps(resource()).encode()))
    assert (response.status_code, response.json) == (415, {"error": "unknown_delivery"})
    assert effects.calls == []
    assert [(line["event"], line["code"]) for line in lines] == [("event_refused", "unknown_delivery")]


def test_a_foreign_bucket_is_refused(app: Flask, effects: FakeEffects) -> None:
    """A foreign event is not acknowledged: Pub/Sub keeps the event until settings and subscription are right."""
    with capture_logs() as lines:
        response = deliver(app, push(bucket="not-ours"))
    assert (response.status_code, response.json) == (403, {"error": "foreign_bucket"})
    assert effects.calls == []
    assert [(line["event"], line["code"]) for line in lines] == [("event_refused", "foreign_bucket")]


def test_postgres_away(app: Flask, effects: FakeEffects) -> None:
    """Without Postgres the response is 503, and no message is sent: a message needs a row."""
    effects.rows_away = DatabaseUnavailable("Postgres is away")
    with capture_logs() as lines:
        response = deliver(app, push())
    assert (response.status_code, response.json) == (503, {"error": "database_unavailable"})
    assert effects.calls == []
    assert [(line["event"], line["code"]) for line in lines] == [("event_deferred", "database_unavailable")]


def test_redis_away(app: Flask, effects: FakeEffects) -> None:
    """Without Redis the response is 503 although the row exists; the next delivery enqueues the row."""
    effects.queue_away = BrokerUnavailable("Redis is away")
    response = deliver(app, push())
    assert (response.status_code, response.json) == (503, {"error": "broker_unavailable"})
    effects.queue_away, effects.created = None, False
    assert deliver(app, push()).status_code == 204
    assert effects.calls[-1] == ("enqueue", 7)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MissingToken("no token"), 401),
        (TokenRefused("wrong e-mail"), 403),
        (SigningKeysUnavailable("no keys"), 503),
    ],
)
def test_callers_are_checked_first(
    intake: Intake, effects: FakeEffects, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    """A refused caller has no effect, with a valid or a malformed body."""

    def authenticate(_credentials: Credentials, _deadline: Deadline) -> None:
        raise error

    app = serve(Endpoint(intake, authenticate), monkeypatch)
    for delivery in (push(), Delivery(b"{")):
        response = deliver(app, delivery)
        assert (response.status_code, effects.calls) == (status, [])
        assert ("WWW-Authenticate" in response.headers) == (status == 401)


@pytest.mark.parametrize(
    ("path", "headers", "credentials"),
    [
        ("/", {"Authorization": "Bearer abc"}, Credentials("Bearer abc")),
        ("/", {}, Credentials("")),
        ("/wake", {"Authorization": "Bearer abc"}, Credentials("Bearer abc", wakes=True)),
        ("/wake/check", {}, Credentials("", wakes=True)),
        ("/wake/", {}, Credentials("")),
        ("/wake/check/", {}, Credentials("")),
        ("/", {"X-Serverless-Authorization": ""}, Credentials("", has_second_token=True)),
    ],
    ids=str,
)
def test_the_check_gets_path_and_headers(
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    headers: dict[str, str],
    credentials: Credentials,
) -> None:
    """The check gets what it needs of the request, and an accepted request is served."""
    seen = []
    app = serve(Endpoint(intake, lambda each, _deadline: seen.append(each)), monkeypatch)
    assert app.test_client().post(path, data=push().body, headers=headers).status_code == 204
    assert seen == [credentials]


@pytest.mark.parametrize("path", ["/wake", "/wake/check"])
def test_calls_that_wake_bring_no_events(
    intake: Intake, effects: FakeEffects, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """The body of a call that wakes or checks the worker pool is not taken as an event."""
    delivery = push()
    app = serve(Endpoint(intake, None), monkeypatch)
    response = app.test_client().post(path, data=delivery.body, headers=delivery.headers)
    assert (response.status_code, effects.calls) == (204, [])


def test_the_log_line_names_the_object(app: Flask) -> None:
    """Each event has a log line with bucket, object, generation, row and message id."""
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        deliver(app, push("猫.jpg", message_id="m-1"))
    (line,) = lines
    assert line["event"] == "event_accepted"
    expected = {"bucket": BUCKET, "object": "猫.jpg", "generation": GENERATION, "row_id": 7, "message_id": "m-1"}
    assert expected.items() <= line.items()


def test_a_line_does_not_name_the_object_before(app: Flask) -> None:
    """The log context ends with the request: a thread serves many requests."""
    deliver(app, push("first.jpg"))
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
        deliver(app, Delivery(b"{"))
    assert "object" not in lines[0]


@pytest.mark.parametrize("path", ["/", "/healthz"])
def test_liveness(app: Flask, effects: FakeEffects, path: str) -> None:
    """GET reports a live process, without a call to another service."""
    response = app.test_client().get(path)
    assert (response.status_code, response.data, effects.calls) == (200, b"alive\n", [])


class Postgres:
    """Stands for the check of the database, and for the clock."""

    def __init__(self, problem: DroplineError | None) -> None:
        self.problem = problem
        self.now = 0.0
        self.checks = 0

    def check(self, deadline: Deadline) -> None:
        """Raise the problem, within the deadline of a probe."""
        assert 0 < deadline.remaining_s() <= START_PROBE_S
        self.checks += 1
        if self.problem:
            raise self.problem

    def clock(self) -> float:
        """The time."""
        return self.now


def probed(intake: Intake, postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """The client of a start-up probe."""
    return serve(Endpoint(intake, None, postgres.check, clock=postgres.clock), monkeypatch).test_client()


def test_an_instance_starts_when_postgres_has_answered(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 while Postgres cannot be reached; after the first answer 200, without another check."""
    postgres = Postgres(DatabaseUnavailable("no route"))
    client = probed(intake, postgres, monkeypatch)
    assert (client.get("/started").status_code, client.get("/healthz").status_code) == (503, 200)
    postgres.problem = None
    assert client.get("/started").status_code == 200
    postgres.problem = DatabaseUnavailable("away")
    assert (client.get("/started").status_code, postgres.checks) == (200, 2)


@pytest.mark.parametrize("kind", [AccessDenied, DatabaseReadOnly, SchemaOutdated, SettingsError])
def test_an_instance_starts_before_the_migrations(
    intake: Intake, monkeypatch: pytest.MonkeyPatch, kind: type[DroplineError]
) -> None:
    """A wrong schema or login is an answer: an apply must not stop at the function."""
    assert probed(intake, Postgres(kind("wrong")), monkeypatch).get("/started").status_code == 200


def test_an_instance_starts_in_an_outage(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute and a half after the start of the process the answer is 200, whatever the check does."""
    postgres = Postgres(DatabaseUnavailable("away"))
    client = probed(intake, postgres, monkeypatch)
    postgres.now = START_WAIT_S - 1
    assert client.get("/started").status_code == 503
    postgres.now = START_WAIT_S
    with capture_logs() as lines:
        assert [client.get("/started").status_code for _ in range(2)] == [200, 200]
    assert [line["event"] for line in lines] == ["started_without_postgres"]
    assert postgres.checks == 1


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/"), ("DELETE", "/"), ("OPTIONS", "/"), ("GET", "/else"), ("PUT", "/started")]
)
def test_other_methods(app: Flask, effects: FakeEffects, method: str, path: str) -> None:
    """Events are accepted by POST only; other methods and paths get 405."""
    response = app.test_client().open(path, method=method, data=push().body)
    assert (response.status_code, response.headers["Allow"], effects.calls) == (405, "POST", [])


def test_refusals_are_small_json(app: Flask) -> None:
    """A refusal is a short document with a code; details are in the log."""
    response = deliver(app, push(bucket="not-ours"))
    assert json.loads(response.data) == {"error": "foreign_bucket"}
    assert len(response.data) < 100
