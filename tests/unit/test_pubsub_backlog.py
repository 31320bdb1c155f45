"""The backlog of a subscription against a model of Pub/Sub's guarantees."""

from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from local_emulators.pubsub.backlog import Backlog, Consumer, LeasedMessage, MalformedAckId, Message
from local_emulators.pubsub.policy import NO_BACKOFF, Backoff, DeadLetterPolicy, DeliveryPolicy

NAME = "projects/p/subscriptions/sub"
MEBIBYTE = 2**20


def policy(*, backoff: Backoff = NO_BACKOFF, max_attempts: int = 0) -> DeliveryPolicy:
    dead_letter = DeadLetterPolicy("projects/p/topics/dead", max_attempts) if max_attempts else None
    return DeliveryPolicy(lambda _attributes: True, 10, backoff, dead_letter, None)


def message(number: int, data: bytes = b"") -> Message:
    return Message(str(number), data, {"k": "v"}, "", datetime(2026, 1, 1, tzinfo=UTC))


def refuse(_message: Message, _attempts: int) -> bool:
    return False


def take(backlog: Backlog, now: float, consumer: Consumer | None = None, limit: int = 100) -> list[LeasedMessage]:
    return backlog.lease(now, limit=limit, max_bytes=MEBIBYTE, seconds=10, consumer=consumer or Consumer())


class BacklogMachine(RuleBasedStateMachine):
    """Every message has exactly one place until the acknowledgement or the last attempt."""

    leased_messages: Bundle[LeasedMessage] = Bundle("leased_messages")

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.published = 0
        self.gone: set[str] = set()
        self.attempts: dict[str, int] = {}
        self.leased_until: dict[str, float] = {}
        self.ack_ids: dict[str, str] = {}
        self.consumer = Consumer(max_messages=3)
        self.backlog = Backlog(NAME, policy(backoff=Backoff(1, 4), max_attempts=5), self._forward)

    def _forward(self, forwarded: Message, attempts: int) -> bool:
        assert attempts == self.attempts[forwarded.message_id] == 5
        self._end_lease(forwarded.message_id)
        self.gone.add(forwarded.message_id)
        return True

    def _end_lease(self, message_id: str) -> None:
        self.leased_until.pop(message_id, None)
        self.ack_ids.pop(message_id, None)

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            self.published += 1
            self.backlog.add(message(self.published))

    @rule(target=leased_messages, limit=st.integers(1, 3))
    def lease(self, limit: int) -> LeasedMessage:
        taken = take(self.backlog, self.now, self.consumer, limit)
        for leased in taken:
            message_id = leased.message.message_id
            assert message_id not in self.leased_until
            assert message_id not in self.gone
            self.attempts[message_id] = self.attempts.get(message_id, 0) + 1
            assert leased.attempt == self.attempts[message_id]
            self.leased_until[message_id] = self.now + 10
            self.ack_ids[message_id] = leased.ack_id
        return taken[0] if taken else LeasedMessage(f"{NAME}:999999:1", message(0), 1)

    @rule(leased=consumes(leased_messages))
    def acknowledge(self, leased: LeasedMessage) -> None:
        self.backlog.acknowledge([leased.ack_id, leased.ack_id])
        message_id = leased.message.message_id
        if self.ack_ids.get(message_id) == leased.ack_id:
            self._end_lease(message_id)
            self.gone.add(message_id)

    @rule(leased=leased_messages, seconds=st.sampled_from([0, 1, 600]))
    def modify(self, leased: LeasedMessage, seconds: int) -> None:
        message_id = leased.message.message_id
        if self.ack_ids.get(message_id) == leased.ack_id:
            self.leased_until[message_id] = self.now + seconds
            if not seconds:
                self._end_lease(message_id)
        self.backlog.modify([leased.ack_id], seconds, self.now)

    @rule(seconds=st.floats(0, 12))
    def advance(self, seconds: float) -> None:
        self.now += seconds
        for message_id in [key for key, until in self.leased_until.items() if until <= self.now]:
            self._end_lease(message_id)
        self.backlog.advance(self.now)

    @invariant()
    def no_message_is_lost(self) -> None:
        assert len(self.backlog) == self.published - len(self.gone)

    @invariant()
    def consumer_holds_the_leased_messages(self) -> None:
        assert self.consumer.messages == len(self.leased_until) <= 3
        assert self.consumer.bytes == 2 * self.consumer.messages

    @invariant()
    def timer_covers_every_lease(self) -> None:
        due = self.backlog.next_due()
        assert not self.leased_until or (due is not None and due <= min(self.leased_until.values()))

    def teardown(self) -> None:
        """After any sequence of steps every remaining message can be leased."""
        self.backlog.advance(self.now + 1_000)  # leases end
        self.backlog.advance(self.now + 2_000)  # and then the delays
        remaining = take(self.backlog, self.now + 2_000, limit=self.published + 1)
        assert len(remaining) == self.published - len(self.gone)


TestBacklog = BacklogMachine.TestCase


def test_oldest_message_goes_first() -> None:
    """Messages without a delivery are leased in publishing order."""
    backlog = Backlog(NAME, policy(), refuse)
    for number in range(5):
        backlog.add(message(number))
    assert [leased.message.message_id for leased in take(backlog, 0, limit=3)] == ["0", "1", "2"]


def test_response_is_bounded_in_bytes_but_never_empty() -> None:
    """A lease stays within the byte limit; a message larger than the limit is leased alone."""
    backlog = Backlog(NAME, policy(), refuse)
    for number, size in enumerate([MEBIBYTE * 2, MEBIBYTE // 2, MEBIBYTE // 4, MEBIBYTE // 2]):
        backlog.add(message(number, bytes(size)))
    assert [len(take(backlog, 0)) for _ in range(4)] == [1, 2, 1, 0]


def test_consumer_limit_in_bytes() -> None:
    """A consumer at the byte limit gets no further message."""
    backlog = Backlog(NAME, policy(), refuse)
    for number in range(4):
        backlog.add(message(number, bytes(100)))
    consumer = Consumer(max_bytes=150)
    first = take(backlog, 0, consumer)
    assert len(first) == 2
    backlog.acknowledge([first[0].ack_id])
    assert len(take(backlog, 0, consumer)) == 1


def test_a_dead_letter_stays_if_forwarding_fails() -> None:
    """After the last attempt a message without a dead-letter topic is delivered again."""
    backlog = Backlog(NAME, policy(max_attempts=5), refuse)
    backlog.add(message(1))
    for attempt in range(1, 9):
        (leased,) = take(backlog, 0)
        assert leased.attempt == attempt
        backlog.modify([leased.ack_id], 0, 0)


@pytest.mark.parametrize(
    "ack_id", ["", "x", "1:1", f"{NAME}:1", f"{NAME}:1:x", f"{NAME}:²:1", f"{NAME}x:1:1", f"{NAME}:-1:1"]
)
def test_malformed_ack_id_changes_nothing(ack_id: str) -> None:
    """A malformed id raises, and a valid id in the same call has no effect."""
    backlog = Backlog(NAME, policy(), refuse)
    backlog.add(message(1))
    (leased,) = take(backlog, 0)
    with pytest.raises(MalformedAckId):
        backlog.acknowledge([leased.ack_id, ack_id])
    assert len(backlog) == 1


def test_project_names_may_hold_colons() -> None:
    """The backlog parses ids of a subscription in a domain-scoped project."""
    backlog = Backlog("projects/example.com:p/subscriptions/sub", policy(), refuse)
    backlog.add(message(1))
    (leased,) = take(backlog, 0)
    backlog.acknowledge([leased.ack_id])
    assert len(backlog) == 0
