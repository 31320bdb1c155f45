"""Updates by field mask, as Pub/Sub checks them."""

from collections.abc import Collection

from google.api_core.exceptions import InvalidArgument
from google.protobuf.field_mask_pb2 import FieldMask

from local_emulators.pubsub import wire

MUTABLE_TOPIC_FIELDS = frozenset(
    {"labels", "message_storage_policy", "message_retention_duration", "kms_key_name"}
)
MUTABLE_SUBSCRIPTION_FIELDS = frozenset(
    {
        "ack_deadline_seconds",
        "dead_letter_policy",
        "enable_exactly_once_delivery",
        "expiration_policy",
        "labels",
        "message_retention_duration",
        "push_config",
        "retain_acked_messages",
        "retry_policy",
    }
)


def updated(current: wire.Proto, changes: wire.Proto, mask: FieldMask, mutable: Collection[str]) -> wire.Proto:
    """A copy of `current` with the masked fields taken from `changes`. Raises InvalidArgument."""
    if not mask.paths:
        raise InvalidArgument(f"The update_mask for {current.name} is empty. Name the fields to change.")
    for path in mask.paths:
        _check_path(path, current, mutable)
    copy = type(current)()
    copy.CopyFrom(current)
    mask.MergeMessage(changes, copy, replace_message_field=True, replace_repeated_field=True)
    return copy


def _check_path(path: str, current: wire.Proto, mutable: Collection[str]) -> None:
    if not FieldMask(paths=[path]).IsValidForDescriptor(current.DESCRIPTOR):
        raise InvalidArgument(f"Invalid update_mask: {path} is not a known field of {current.name}.")
    if path.partition(".")[0] not in mutable:
        raise InvalidArgument(f"Invalid update_mask: {path} of {current.name} is not mutable. Leave it out.")
