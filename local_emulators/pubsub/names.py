"""Resource names: `projects/PROJECT/topics/ID` and `projects/PROJECT/subscriptions/ID`. Pure."""

import re

from google.api_core.exceptions import InvalidArgument

#: What a subscription names as its topic once that topic is deleted.
DELETED_TOPIC = "_deleted-topic_"

_ID = r"(?!goog)[A-Za-z][A-Za-z0-9\-_.~+%]{2,254}"
_PROJECT = re.compile(r"projects/[^/\s]+")


def check_project(name: str) -> None:
    """Raise InvalidArgument unless the name is `projects/PROJECT`."""
    if not _PROJECT.fullmatch(name):
        raise InvalidArgument(f"Invalid project name: (name={name}). Use projects/PROJECT.")


def check_topic(name: str) -> None:
    """Raise InvalidArgument unless the name is a topic's."""
    _check("topics", name)


def check_subscription(name: str) -> None:
    """Raise InvalidArgument unless the name is a subscription's."""
    _check("subscriptions", name)


def project_id(name: str) -> str:
    """The project's id within a resource name."""
    return name.split("/")[1]


def short_id(name: str) -> str:
    """The last part of a resource name."""
    return name.rpartition("/")[2]


def _check(collection: str, name: str) -> None:
    if not re.fullmatch(rf"projects/[^/\s]+/{collection}/{_ID}", name):
        raise InvalidArgument(
            f"Invalid [{collection}] name: (name={name}). Use projects/PROJECT/{collection}/ID, where ID has 3 to "
            "255 letters, digits or -_.~+%, starts with a letter and not with goog."
        )
