"""gRPC servicing without generated servicers: methods by name, google.api_core exceptions as statuses."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import grpc
from google.api_core.exceptions import GoogleAPICallError

from local_emulators.pubsub import wire

_Handler: TypeAlias = "grpc.RpcMethodHandler[wire.Proto, wire.Proto]"
_Context: TypeAlias = "grpc.aio.ServicerContext[wire.Proto, wire.Proto]"


@dataclass(frozen=True, slots=True)
class Method:
    """A unary RPC: its handler and the protobuf classes of its request and response."""

    handler: Callable[[wire.Proto], Awaitable[wire.Proto]]
    request: wire.Proto
    response: wire.Proto


@dataclass(frozen=True, slots=True)
class Stream:
    """A bidirectional RPC: its handler gets the requests and a function that sends a response."""

    handler: Callable[[AsyncIterator[wire.Proto], Callable[[wire.Proto], Awaitable[None]]], Awaitable[None]]
    request: wire.Proto
    response: wire.Proto


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service: its full name and its RPCs."""

    name: str
    methods: Mapping[str, Method | Stream]


class ServiceHandler(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # generic in its stubs alone
    """Routes calls to the services; every other RPC is answered UNIMPLEMENTED, in words."""

    def __init__(self, services: Sequence[Service]) -> None:
        self._handlers = {
            f"/{service.name}/{name}": _stream_handler(method)
            if isinstance(method, Stream)
            else _unary_handler(method)
            for service in services
            for name, method in service.methods.items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> _Handler:
        """The handler of one call."""
        path = handler_call_details.method
        return self._handlers.get(path) or _unimplemented_handler(path)


def _unary_handler(method: Method) -> _Handler:
    async def handle(request: wire.Proto, context: _Context) -> wire.Proto:
        try:
            return await method.handler(request)
        except GoogleAPICallError as error:
            return await context.abort(error.grpc_status_code or grpc.StatusCode.UNKNOWN, error.message)

    return grpc.unary_unary_rpc_method_handler(
        handle,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


def _stream_handler(method: Stream) -> _Handler:
    async def handle(requests: AsyncIterator[wire.Proto], context: _Context) -> None:
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
            f"This emulator does not implement {path.lstrip('/')}. docs/pubsub-emulator.md lists what it does.",
        )

    return grpc.unary_unary_rpc_method_handler(handle)
