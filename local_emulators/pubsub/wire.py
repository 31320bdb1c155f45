"""Pub/Sub's API over gRPC: the protobuf classes of google-cloud-pubsub, and the routing of calls to handlers.

proto-plus wraps every class. `.pb()` is the protobuf class inside: several times faster to parse and to serialize,
and required by gRPC's serializers and FieldMask. Protobuf builds the classes at run time, so the type is Any.

Handlers are registered by RPC name, without generated servicers; google.api_core exceptions become gRPC statuses.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import grpc
from google.api_core.exceptions import GoogleAPICallError
from google.protobuf import empty_pb2, field_mask_pb2
from google.pubsub_v1 import types

#: A protobuf message.
Proto: TypeAlias = Any

Empty: Any = empty_pb2.Empty
FieldMask: Any = field_mask_pb2.FieldMask

Topic: Any = types.Topic.pb()
Subscription: Any = types.Subscription.pb()
PubsubMessage: Any = types.PubsubMessage.pb()
ReceivedMessage: Any = types.ReceivedMessage.pb()

GetTopicRequest: Any = types.GetTopicRequest.pb()
UpdateTopicRequest: Any = types.UpdateTopicRequest.pb()
DeleteTopicRequest: Any = types.DeleteTopicRequest.pb()
ListTopicsRequest: Any = types.ListTopicsRequest.pb()
ListTopicsResponse: Any = types.ListTopicsResponse.pb()
ListTopicSubscriptionsRequest: Any = types.ListTopicSubscriptionsRequest.pb()
ListTopicSubscriptionsResponse: Any = types.ListTopicSubscriptionsResponse.pb()
PublishRequest: Any = types.PublishRequest.pb()
PublishResponse: Any = types.PublishResponse.pb()
DetachSubscriptionRequest: Any = types.DetachSubscriptionRequest.pb()
DetachSubscriptionResponse: Any = types.DetachSubscriptionResponse.pb()

GetSubscriptionRequest: Any = types.GetSubscriptionRequest.pb()
UpdateSubscriptionRequest: Any = types.UpdateSubscriptionRequest.pb()
DeleteSubscriptionRequest: Any = types.DeleteSubscriptionRequest.pb()
ListSubscriptionsRequest: Any = types.ListSubscriptionsRequest.pb()
ListSubscriptionsResponse: Any = types.ListSubscriptionsResponse.pb()
ModifyPushConfigRequest: Any = types.ModifyPushConfigRequest.pb()
AcknowledgeRequest: Any = types.AcknowledgeRequest.pb()
ModifyAckDeadlineRequest: Any = types.ModifyAckDeadlineRequest.pb()
PullRequest: Any = types.PullRequest.pb()
PullResponse: Any = types.PullResponse.pb()
StreamingPullRequest: Any = types.StreamingPullRequest.pb()
StreamingPullResponse: Any = types.StreamingPullResponse.pb()

_Handler: TypeAlias = "grpc.RpcMethodHandler[Proto, Proto]"
_Context: TypeAlias = "grpc.aio.ServicerContext[Proto, Proto]"


@dataclass(frozen=True, slots=True)
class UnaryRpc:
    """A unary RPC: the handler, and the protobuf classes of request and response."""

    handler: Callable[[Proto], Awaitable[Proto]]
    request: Proto
    response: Proto


@dataclass(frozen=True, slots=True)
class StreamRpc:
    """A bidirectional RPC: the handler gets the requests, and a function for sending a response."""

    handler: Callable[[AsyncIterator[Proto], Callable[[Proto], Awaitable[None]]], Awaitable[None]]
    request: Proto
    response: Proto


@dataclass(frozen=True, slots=True)
class RpcService:
    """A gRPC service: the full name, and the RPCs by name."""

    name: str
    methods: Mapping[str, UnaryRpc | StreamRpc]


class RpcRouter(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in the stubs alone
    """Routes calls to the handlers; an unknown RPC gets UNIMPLEMENTED with an explanation."""

    def __init__(self, services: Sequence[RpcService]) -> None:
        self._handlers = {
            f"/{service.name}/{name}": _stream_handler(method)
            if isinstance(method, StreamRpc)
            else _unary_handler(method)
            for service in services
            for name, method in service.methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        """The handler of one call."""
        path = handler_call_details.method
        return self._handlers.get(path) or _unimplemented_handler(path)


def _unary_handler(method: UnaryRpc) -> _Handler:
    async def handle(request: Proto, context: _Context) -> Proto:
        try:
            return await method.handler(request)
        except GoogleAPICallError as error:
            return await context.abort(error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message)

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


def _stream_handler(method: StreamRpc) -> _Handler:
    async def handle(requests: AsyncIterator[Proto], context: _Context) -> None:
        try:
            await method.handler(requests, context.write)
        except GoogleAPICallError as error:
            await context.abort(error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message)

    return grpc.stream_stream_rpc_method_handler(
        handle,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


def _unimplemented_handler(path: str) -> _Handler:
    async def handle(_request: bytes, context: _Context) -> None:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            f"This emulator does not implement {path.lstrip('/')}. "
            "docs/pubsub-emulator.md lists the implemented RPCs.",
        )

    return grpc.unary_unary_rpc_method_handler(handle)
