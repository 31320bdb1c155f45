"""Dropline's Pub/Sub emulator as a process: start, stop, and features without a counterpart in Google's."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jwt
import pytest
from google.api_core.exceptions import MethodNotImplemented
from google.auth.transport.requests import Request
from google.oauth2 import id_token

from local_emulators.ports import free_ports
from tests.support.pubsub import PATIENCE, Pubsub, PushEndpoint, PushRequest

ROOT = Path(__file__).resolve().parents[2]


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "local_emulators.pubsub", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    )


@contextmanager
def running(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A ready emulator on a free port, and the HOST:PORT."""
    with start("--port", "0", *arguments) as process:
        try:
            assert process.stdout is not None
            match = re.fullmatch(r"pubsub emulator ready on (127\.0\.0\.1:\d+)\n", process.stdout.readline())
            assert match, "no ready line"
            yield process, match[1]
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_emulator_in_order(number: signal.Signals) -> None:
    """A stop signal ends the process with status 0 and no output, also during an open stream and a push."""
    release = threading.Event()

    def hang(_request: PushRequest) -> int:
        pushed.set()
        release.wait(PATIENCE)
        return 204

    pushed = threading.Event()
    with running() as (process, host), Pubsub.connect(host, "test") as pubsub, PushEndpoint(hang) as endpoint:
        topic = pubsub.topic()
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        with pubsub.open_stream(pubsub.subscription(topic)) as (_, responses):
            pubsub.publish(topic, b"x")
            assert len(next(responses).received_messages) == 1
            assert pushed.wait(PATIENCE)
            process.send_signal(number)
            # Shorter than the timeout of the push, 10 s: the exit must not wait for the push.
            assert process.wait(timeout=8) == 0
        release.set()
        assert process.stderr is not None
        assert [line for line in process.stderr if " INFO " not in line] == []


@pytest.mark.parametrize("flag", ["--port", "--http-port"])
def test_port_in_use_is_one_clear_line(flag: str) -> None:
    """With a port in use the exit status is 1; one line has the address and the option."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        others = ["--port", "0"] if flag == "--http-port" else []
        with start(*others, flag, str(port)) as process:
            output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert output == ""
    assert errors == (
        f"error: the Pub/Sub emulator cannot listen on 127.0.0.1:{port} (Address already in use); "
        f"free that port or choose another with {flag}\n"
    )


def test_an_unknown_rpc_is_unimplemented_with_an_explanation() -> None:
    """The error has the RPC's name and the page with the implemented RPCs."""
    with running() as (_, host), Pubsub.connect(host, "test") as pubsub:
        subscription = pubsub.subscription(pubsub.topic())
        with pytest.raises(MethodNotImplemented, match=r"CreateSnapshot.*docs/pubsub-emulator\.md"):
            pubsub.subscriber.create_snapshot(name="projects/test/snapshots/snap", subscription=subscription)


@pytest.mark.parametrize("certificates", ["/oauth2/v3/certs", "/oauth2/v1/certs"])
def test_push_token_is_verified_by_google_auth(certificates: str) -> None:
    """With an oidc_token google-auth accepts the token of a push against the emulator's keys."""
    (http_port,) = free_ports(1)
    with (
        running("--http-port", str(http_port)) as (_, host),
        Pubsub.connect(host, "test") as pubsub,
        PushEndpoint(lambda _request: 204) as endpoint,
    ):
        topic = pubsub.topic()
        oidc = {"service_account_email": "push@test.iam.gserviceaccount.com", "audience": "http://function"}
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url, "oidc_token": oidc})
        pubsub.publish(topic, b"x")
        (request,) = endpoint.take()
        claims = id_token.verify_token(
            request.headers["authorization"].removeprefix("Bearer "),
            Request(),
            audience="http://function",
            certs_url=f"http://127.0.0.1:{http_port}{certificates}",
        )
    assert claims["iss"] == "https://accounts.google.com"
    assert (claims["email"], claims["email_verified"]) == (oidc["service_account_email"], True)


def test_push_audience_defaults_to_the_endpoint() -> None:
    """Without an audience the token is for the push URL; without an e-mail a push has no token."""
    email = {"service_account_email": "push@test.iam.gserviceaccount.com"}
    with (
        running() as (_, host),
        Pubsub.connect(host, "test") as pubsub,
        PushEndpoint(lambda _request: 204) as endpoint,
    ):
        topic = pubsub.topic()
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url, "oidc_token": email})
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url})
        pubsub.publish(topic, b"x")
        without, with_token = sorted(request.headers.get("authorization", "") for request in endpoint.take(2))
    claims = jwt.decode(with_token.removeprefix("Bearer "), options={"verify_signature": False})
    assert (without, claims["aud"]) == ("", endpoint.url)


def test_concurrent_pushes_are_bounded() -> None:
    """The number of concurrent requests stays within the option, and every message is pushed."""
    lock, full = threading.Lock(), threading.Event()
    under_way, most = 0, 0

    def answer(_request: PushRequest) -> int:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
            if under_way == 4:
                full.set()
        full.wait(PATIENCE)
        with lock:
            under_way -= 1
        return 204

    with (
        running("--push-concurrency", "4") as (_, host),
        Pubsub.connect(host, "test") as pubsub,
        PushEndpoint(answer) as endpoint,
    ):
        topic = pubsub.topic()
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, ack_deadline_seconds=600)
        for number in range(40):
            pubsub.publish(topic, str(number).encode())
        pushed = {request.body["message"]["messageId"] for request in endpoint.take(40)}
    assert (len(pushed), most) == (40, 4)


def test_slow_endpoint_gets_the_message_again() -> None:
    """After the acknowledgement deadline without a response the message is pushed again."""
    release = threading.Event()

    def answer(request: PushRequest) -> int:
        if request.number == 1:
            release.wait(PATIENCE)
        return 204

    with running() as (_, host), Pubsub.connect(host, "test") as pubsub, PushEndpoint(answer) as endpoint:
        topic = pubsub.topic()
        pubsub.subscription(topic, push_config={"push_endpoint": endpoint.url}, ack_deadline_seconds=10)
        message_id = pubsub.publish(topic, b"x")
        (second,) = endpoint.take()
        release.set()
        assert (second.number, second.body["message"]["messageId"]) == (2, message_id)
