"""Push tokens checked against keys fetched from a real server."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import psycopg
import pytest
from flask import Flask
from pydantic import SecretStr

from dropline.settings import BrokerSettings, DatabaseSettings, EventSettings, PushSettings, Settings
from tests.support.deliveries import BUCKET, push
from tests.support.function import deliver, serve
from tests.support.tokens import AUDIENCE, PUSHER, WAKER, Signer, forwarded
from trigger_fn import service
from trigger_fn.push_auth import SigningKeysUnavailable, TokenRefused, fetched_keys


class KeyServer:
    """Serves `body` as the JWKS, and counts the requests."""

    def __init__(self) -> None:
        self.body = b""
        self.status = 200
        self.requests = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                """No output during tests."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/certs"

    def publish(self, *signers: Signer) -> None:
        self.body = json.dumps({"keys": [signer.jwk() for signer in signers]}).encode()


@pytest.fixture
def keys() -> Iterator[KeyServer]:
    """A running key server."""
    keys = KeyServer()
    thread = Thread(target=keys.server.serve_forever, args=(0.01,))
    thread.start()
    yield keys
    keys.server.shutdown()
    thread.join()
    keys.server.server_close()


@pytest.fixture(scope="module")
def signer() -> Signer:
    """The issuer of push tokens."""
    return Signer()


@pytest.fixture
def settings(database_url: str, redis_url: str, keys: KeyServer) -> Settings:
    """Settings of the function with token checks on."""
    return Settings(
        database=DatabaseSettings(url=SecretStr(database_url)),
        broker=BrokerSettings(url=SecretStr(redis_url)),
        events=EventSettings(buckets=(BUCKET,)),
        push=PushSettings(
            audience=AUDIENCE, service_account=PUSHER, wake_service_account=WAKER, certs_url=keys.url
        ),
    )


@pytest.fixture
def app(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function, without a service in front."""
    with service.open_endpoint(settings) as endpoint:
        yield serve(endpoint, monkeypatch)


@pytest.fixture
def app_behind_cloud_run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """The function as Terraform deploys it."""
    push = settings.push.model_copy(update={"behind_cloud_run": True})
    with service.open_endpoint(settings.model_copy(update={"push": push})) as endpoint:
        yield serve(endpoint, monkeypatch)


def test_only_a_valid_token_is_accepted(app: Flask, keys: KeyServer, signer: Signer, database_url: str) -> None:
    """401 without a token, 403 with a wrong token, and no row; 204 and a row with a valid token."""
    keys.publish(Signer("other"), signer)
    wrong = [
        signer.token(aud="https://other.example"),
        signer.token(email="someone@example.com"),
        signer.token(exp=1),
        Signer().token(),
        "garbage",
    ]
    assert deliver(app, push()).status_code == 401
    assert [deliver(app, push(), f"Bearer {token}").status_code for token in wrong] == [403] * len(wrong)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM captions").fetchone() == (0,)
        assert deliver(app, push(), f"Bearer {signer.token()}").status_code == 204
        assert connection.execute("SELECT count(*) FROM captions").fetchone() == (1,)


def test_events_are_accepted_behind_cloud_run(
    app_behind_cloud_run: Flask, keys: KeyServer, signer: Signer, database_url: str
) -> None:
    """A token without its signature, as Cloud Run forwards it, is enough for a row; no key is fetched."""
    wrong = [signer.token(aud="https://other.example"), signer.token(email=WAKER), signer.token(exp=1)]
    headers = [forwarded(f"Bearer {token}") for token in wrong]
    assert [deliver(app_behind_cloud_run, push(), each).status_code for each in headers] == [403] * len(wrong)
    assert deliver(app_behind_cloud_run, push()).status_code == 401
    assert deliver(app_behind_cloud_run, push(), forwarded(f"Bearer {signer.token()}")).status_code == 204
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM captions").fetchone() == (1,)
    assert keys.requests == 0


@pytest.mark.parametrize("path", ["/wake", "/wake/check"])
def test_the_wake_account_reaches_its_paths_alone(
    app_behind_cloud_run: Flask, signer: Signer, path: str, database_url: str
) -> None:
    """A call as the wake account wakes the worker pool; an event as this account is refused and makes no row."""
    header = forwarded(f"Bearer {signer.token(email=WAKER)}")
    client = app_behind_cloud_run.test_client()
    event = push()
    assert client.post(path, headers={"Authorization": header}).status_code == 204
    assert deliver(app_behind_cloud_run, event, header).status_code == 403
    headers = event.headers | {"Authorization": header}
    assert client.post(f"{path}/", data=event.body, headers=headers).status_code == 403
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM captions").fetchone() == (0,)


def test_keys_are_fetched_once(keys: KeyServer, signer: Signer) -> None:
    """Keys are not fetched for each request, and not for unknown key ids."""
    keys.publish(signer)
    key_of = fetched_keys(keys.url)
    for _ in range(5):
        assert key_of(signer.token()).key_id == signer.key_id
    for number in range(5):
        with pytest.raises(TokenRefused, match="does not list"):
            key_of(Signer(f"invented-{number}", signer.key).token())
    assert keys.requests == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (404, b"{}"), (200, b"<html>"), (200, b"[]"), (200, b'{"keys": []}'), (200, b"\xff")],
)
def test_a_broken_key_server_is_an_outage(keys: KeyServer, signer: Signer, status: int, body: bytes) -> None:
    """A broken key server is a transient error, since the token may be valid; a repaired server is asked again."""
    keys.status, keys.body = status, body
    key_of = fetched_keys(keys.url)
    with pytest.raises(SigningKeysUnavailable, match=keys.url):
        key_of(signer.token())
    keys.status = 200
    keys.publish(signer)
    assert key_of(signer.token()).key_id == signer.key_id


def test_no_key_server(app: Flask, keys: KeyServer, signer: Signer) -> None:
    """An unavailable key server means 503, like any unavailable service."""
    keys.status = 503
    response = deliver(app, push(), f"Bearer {signer.token()}")
    assert (response.status_code, response.json) == (503, {"error": "signing_keys_unavailable"})
