"""The delivery policy of a subscription, read from the subscription's resource: validation and defaults.

Durations are seconds.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from google.api_core.exceptions import InvalidArgument, MethodNotImplemented, OutOfRange

from local_emulators.pubsub import resources, wire
from local_emulators.pubsub.filters import InvalidFilter, Predicate, parse_filter

DEFAULT_ACK_DEADLINE = 10
MIN_ACK_DEADLINE = 10
MAX_ACK_DEADLINE = 600
DEFAULT_MAX_DELIVERY_ATTEMPTS = 5
_DEFAULT_RETENTION = 7 * 24 * 3600
_DEFAULT_EXPIRATION = 31 * 24 * 3600
_BACKOFF_LIMIT = 600
_DEFAULT_MINIMUM_BACKOFF = 10

#: Fields with an effect on the delivery, refused instead of silently ignored.
_UNSUPPORTED = (
    "bigquery_config",
    "bigtable_config",
    "cloud_storage_config",
    "enable_exactly_once_delivery",
    "enable_message_ordering",
    "message_transforms",
)


@dataclass(frozen=True, slots=True)
class Backoff:
    """The delay before a redelivery: doubled with every attempt, from `minimum` up to `maximum` seconds."""

    minimum: float
    maximum: float

    def after(self, attempt: int) -> float:
        """Seconds of delay after the failed delivery number `attempt`, counted from 1."""
        return min(self.maximum, self.minimum * 2.0 ** min(attempt - 1, 64))


#: A pull subscription without a retry policy redelivers at once.
NO_BACKOFF = Backoff(0, 0)
#: A push subscription without a retry policy has a backoff too, for a failing endpoint.
PUSH_BACKOFF = Backoff(0.1, 60)


@dataclass(frozen=True, slots=True)
class DeadLetterPolicy:
    """The topic for a message after `max_attempts` failed deliveries."""

    topic: str
    max_attempts: int


@dataclass(frozen=True, slots=True)
class PushTarget:
    """The endpoint of a push subscription; with an e-mail, every request has a signed OpenID Connect token."""

    endpoint: str
    service_account_email: str
    audience: str


@dataclass(frozen=True, slots=True)
class DeliveryPolicy:
    """A subscription's filter, acknowledgement deadline, backoff, dead-letter policy and push target."""

    accepts: Predicate
    ack_deadline: int
    backoff: Backoff
    dead_letter: DeadLetterPolicy | None
    push: PushTarget | None


def complete(resource: wire.Proto) -> None:
    """Fill in a new subscription's defaults, in place, as Pub/Sub does."""
    resource.ack_deadline_seconds = resource.ack_deadline_seconds or DEFAULT_ACK_DEADLINE
    if not resource.HasField("push_config"):
        resource.push_config.SetInParent()
    if not resource.HasField("message_retention_duration"):
        resource.message_retention_duration.seconds = _DEFAULT_RETENTION
    if not resource.HasField("expiration_policy"):
        resource.expiration_policy.ttl.seconds = _DEFAULT_EXPIRATION
    if resource.HasField("retry_policy"):
        _complete_retry(resource.retry_policy)
    if resource.HasField("dead_letter_policy"):
        policy = resource.dead_letter_policy
        policy.max_delivery_attempts = policy.max_delivery_attempts or DEFAULT_MAX_DELIVERY_ATTEMPTS
    resource.state = resource.ACTIVE


def read_policy(resource: wire.Proto) -> DeliveryPolicy:
    """The policy of a completed resource. Raises InvalidArgument, OutOfRange or MethodNotImplemented."""
    _refuse_unsupported(resource)
    check_ack_deadline(resource.ack_deadline_seconds, minimum=MIN_ACK_DEADLINE)
    push = _read_push(resource.push_config)
    return DeliveryPolicy(
        accepts=_read_filter(resource.filter),
        ack_deadline=resource.ack_deadline_seconds,
        backoff=_read_backoff(resource, push),
        dead_letter=_read_dead_letter(resource),
        push=push,
    )


def check_ack_deadline(seconds: int, *, minimum: int = 0) -> None:
    """Raise InvalidArgument unless the deadline is from `minimum` to 600 seconds."""
    if not minimum <= seconds <= MAX_ACK_DEADLINE:
        raise InvalidArgument(
            f"Acknowledgement deadline of {seconds} s is out of bounds. Use {minimum} to {MAX_ACK_DEADLINE} s."
        )


def _complete_retry(policy: wire.Proto) -> None:
    if not policy.HasField("minimum_backoff"):
        policy.minimum_backoff.seconds = _DEFAULT_MINIMUM_BACKOFF
    if not policy.HasField("maximum_backoff"):
        policy.maximum_backoff.seconds = _BACKOFF_LIMIT


def _refuse_unsupported(resource: wire.Proto) -> None:
    for field, _ in resource.ListFields():
        if field.name in _UNSUPPORTED:
            raise MethodNotImplemented(
                f"This emulator does not support {field.name} (subscription {resource.name}). Leave it out."
            )
    if resource.push_config.HasField("no_wrapper"):
        raise MethodNotImplemented("This emulator always wraps pushed messages. Leave push_config.no_wrapper out.")


def _read_filter(text: str) -> Predicate:
    try:
        return parse_filter(text)
    except InvalidFilter as error:
        raise InvalidArgument(f"Invalid filter {text!r}: {error}.") from error


def _read_backoff(resource: wire.Proto, push: PushTarget | None) -> Backoff:
    if not resource.HasField("retry_policy"):
        return PUSH_BACKOFF if push else NO_BACKOFF
    policy = resource.retry_policy
    minimum = _seconds(policy.minimum_backoff, "minimum_backoff")
    maximum = _seconds(policy.maximum_backoff, "maximum_backoff")
    if maximum < minimum:
        raise InvalidArgument(
            f"maximum_backoff ({maximum:g} s) is smaller than minimum_backoff ({minimum:g} s). Raise it."
        )
    return Backoff(minimum, maximum)


def _seconds(duration: wire.Proto, field: str) -> float:
    seconds = float(duration.seconds + duration.nanos / 1e9)
    if not 0 <= seconds <= _BACKOFF_LIMIT:
        raise InvalidArgument(f"{field} of {seconds:g} s is out of bounds. Use 0 to {_BACKOFF_LIMIT} seconds.")
    return seconds


def _read_dead_letter(resource: wire.Proto) -> DeadLetterPolicy | None:
    if not resource.HasField("dead_letter_policy"):
        return None
    policy = resource.dead_letter_policy
    resources.check_topic(policy.dead_letter_topic)
    if not 5 <= policy.max_delivery_attempts <= 100:
        raise OutOfRange(f"max_delivery_attempts is {policy.max_delivery_attempts}. Use 5 to 100.")
    return DeadLetterPolicy(policy.dead_letter_topic, policy.max_delivery_attempts)


def _read_push(config: wire.Proto) -> PushTarget | None:
    endpoint = config.push_endpoint
    if not endpoint:
        return None
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgument(f"Unsupported push_endpoint {endpoint!r}. Use an http or https URL.")
    return PushTarget(endpoint, config.oidc_token.service_account_email, config.oidc_token.audience or endpoint)
