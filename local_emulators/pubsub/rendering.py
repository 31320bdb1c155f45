"""A delivery as its consumers see it: a ReceivedMessage over gRPC, a JSON body over HTTP. Pure."""

import base64
import json
from datetime import datetime
from typing import Any

from local_emulators.pubsub import wire
from local_emulators.pubsub.backlog import Delivery
from local_emulators.pubsub.rules import Rules


def timestamp(moment: datetime) -> str:
    """A UTC time as Pub/Sub writes it in JSON and in attributes, to the millisecond."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def received_message(delivery: Delivery, rules: Rules) -> wire.Proto:
    """The message that Pull answers with; attempts are told only where a dead-letter policy counts them."""
    message = delivery.message
    result = wire.ReceivedMessage(
        ack_id=delivery.ack_id,
        message=wire.PubsubMessage(
            data=message.data,
            attributes=message.attributes,
            message_id=message.message_id,
            ordering_key=message.ordering_key,
        ),
        delivery_attempt=delivery.attempt if rules.dead_letter else 0,
    )
    result.message.publish_time.FromDatetime(message.publish_time)
    return result


def push_body(subscription: str, delivery: Delivery, rules: Rules) -> bytes:
    """The JSON that Pub/Sub posts; attempts are told only where a dead-letter policy counts them."""
    message = delivery.message
    published = timestamp(message.publish_time)
    wrapped: dict[str, Any] = {
        "messageId": message.message_id,
        "message_id": message.message_id,
        "publishTime": published,
        "publish_time": published,
    }
    optional = {
        "attributes": dict(message.attributes),
        "data": base64.b64encode(message.data).decode("ascii"),
        "orderingKey": message.ordering_key,
    }
    wrapped |= {name: value for name, value in optional.items() if value}
    envelope: dict[str, Any] = {"message": wrapped, "subscription": subscription}
    if rules.dead_letter:
        envelope["deliveryAttempt"] = delivery.attempt
    return json.dumps(envelope).encode()
