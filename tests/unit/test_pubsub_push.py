"""The body and the token of a push request."""

import json
from typing import Any

import jwt
import pytest

from local_emulators.pubsub.backlog import LeasedMessage, Message
from local_emulators.pubsub.emulator import Emulator
from local_emulators.pubsub.oidc import ISSUER, TokenIssuer
from local_emulators.pubsub.push import push_body
from local_emulators.pubsub.subscriber import received_message
from tests.support.clock import ManualClock
from tests.support.pubsub_emulator import DEAD, NOW, SUBSCRIPTION, make_emulator, subscribe

#: PyJWT checks against the system clock, not against the test's clock.
UNTIMED: Any = {"verify_exp": False, "verify_iat": False}


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Emulator:
    return make_emulator(clock)


def leased(data: bytes, attributes: dict[str, str]) -> LeasedMessage:
    message = Message("7", data, attributes, "", NOW)
    return LeasedMessage("ack", message, 3)


def test_push_body_has_both_spellings(emulator: Emulator) -> None:
    """The envelope has id and time twice and encoded data, and no attempt without a dead-letter policy."""
    body = json.loads(push_body(SUBSCRIPTION, leased(b"\x00\xff", {"k": "ü"}), subscribe(emulator).policy))
    assert body == {
        "subscription": SUBSCRIPTION,
        "message": {
            "data": "AP8=",
            "attributes": {"k": "ü"},
            "messageId": "7",
            "message_id": "7",
            "publishTime": "2026-03-01T12:00:00.250Z",
            "publish_time": "2026-03-01T12:00:00.250Z",
        },
    }


def test_a_dead_letter_policy_adds_the_attempt(emulator: Emulator) -> None:
    """Push and pull messages have the attempt; a message without data has no data field."""
    policy = subscribe(emulator, dead_letter_policy={"dead_letter_topic": DEAD}).policy
    body = json.loads(push_body(SUBSCRIPTION, leased(b"", {"k": "v"}), policy))
    assert body["deliveryAttempt"] == 3
    assert "data" not in body["message"]
    assert received_message(leased(b"", {}), policy).delivery_attempt == 3


def test_token_is_signed_and_renewed_in_time() -> None:
    """The token has valid claims and a valid signature, is reused, and is replaced before the expiry."""
    now = [1_800_000_000.0]
    issuer = TokenIssuer(lambda: now[0])
    token = issuer.token("push@p.iam", "http://receiver")
    key = jwt.PyJWKSet.from_dict(issuer.jwks()).keys[0]
    claims = jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience="http://receiver",
        issuer=ISSUER,
        options=UNTIMED,
    )
    assert (claims["email"], claims["email_verified"], claims["exp"]) == ("push@p.iam", True, 1_800_003_600)
    now[0] += 3300
    assert issuer.token("push@p.iam", "http://receiver") == token
    now[0] += 1
    assert issuer.token("push@p.iam", "http://receiver") != token
    assert issuer.token("push@p.iam", "http://other") != issuer.token("push@p.iam", "http://receiver")
