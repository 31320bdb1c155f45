"""Topics and subscriptions as resources: names, updates by field mask, and pages of a list. Pure.

Names are `projects/PROJECT/topics/ID` and `projects/PROJECT/subscriptions/ID`.
"""

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable

from google.api_core.exceptions import InvalidArgument
from google.protobuf.field_mask_pb2 import FieldMask

from local_emulators.pubsub import wire

#: The `topic` of a subscription after the deletion of the topic.
DELETED_TOPIC = "_deleted-topic_"

_ID = r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}"
_PROJECT = re.compile(r"projects/[^/\s]+")

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

_LARGEST_PAGE = 1000


def check_project(name: str) -> None:
    """Raise InvalidArgument unless the name is `projects/PROJECT`."""
    if not _PROJECT.fullmatch(name):
        raise InvalidArgument(f"Invalid project name: (name={name}). Use projects/PROJECT.")


def check_topic(name: str) -> None:
    """Raise InvalidArgument unless the name is a topic's."""
    _check_name("topics", name)


def check_subscription(name: str) -> None:
    """Raise InvalidArgument unless the name is a subscription's."""
    _check_name("subscriptions", name)


def project_id(name: str) -> str:
    """The project's id within a resource name."""
    return name.split("/")[1]


def short_id(name: str) -> str:
    """The last part of a resource name."""
    return name.rpartition("/")[2]


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


def page(all_names: Iterable[str], size: int, token: str) -> tuple[list[str], str]:
    """The names from `token` on, at most `size` (0: the maximum), and the next page's token or "".

    A token is the first name of a page, so names created or deleted between two calls do not shift the pages.
    Raises InvalidArgument for a negative size.
    """
    if size < 0:
        raise InvalidArgument(f"page_size is {size}. Use 0 or more.")
    ordered = sorted(all_names)
    start = bisect_left(ordered, token)
    end = start + min(size or _LARGEST_PAGE, _LARGEST_PAGE)
    return ordered[start:end], ordered[end] if end < len(ordered) else ""


def _check_name(collection: str, name: str) -> None:
    if not re.fullmatch(rf"projects/[^/\s]+/{collection}/{_ID}", name):
        raise InvalidArgument(
            f"Invalid [{collection}] name: (name={name}). Use projects/PROJECT/{collection}/ID, where ID has 3 to "
            "255 letters, digits or -_.~+%, starts with a letter and not with goog."
        )


def _check_path(path: str, current: wire.Proto, mutable: Collection[str]) -> None:
    if not FieldMask(paths=[path]).IsValidForDescriptor(current.DESCRIPTOR):
        raise InvalidArgument(f"Invalid update_mask: {path} is not a known field of {current.name}.")
    if path.partition(".")[0] not in mutable:
        raise InvalidArgument(f"Invalid update_mask: {path} of {current.name} is not mutable. Leave it out.")
