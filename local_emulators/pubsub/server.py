"""Puts the emulator together and serves it until it is told to stop."""

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass

import grpc

from local_emulators.errors import PortInUseError
from local_emulators.pubsub.broker import Broker
from local_emulators.pubsub.oidc import JWKS_PATH, TokenIssuer, serve_keys
from local_emulators.pubsub.publisher import Publisher
from local_emulators.pubsub.push import PushService
from local_emulators.pubsub.rpc import ServiceHandler
from local_emulators.pubsub.subscriber import Subscriber

#: Pub/Sub takes requests of up to 10 MB; gRPC's own limit would be 4 MiB.
_MAX_REQUEST_BYTES = 12 * 1024 * 1024
#: Seconds that RPCs get to finish after a stop signal; open streams are cut off then.
_STOP_GRACE = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """Where to listen, and how hard to push. Port 0 takes any free port; `http_port` None serves no keys."""

    host: str
    port: int
    http_port: int | None = None
    push_concurrency: int = 32


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Prints one line when ready. Raises PortInUseError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    issuer = TokenIssuer()
    if options.http_port is not None:
        _serve_keys(issuer, options)
    pushes = PushService(issuer, concurrency=options.push_concurrency)
    broker = Broker(loop, on_subscription=pushes.attach)
    server, port = _build(broker, options)
    await server.start()
    print(f"pubsub emulator ready on {options.host}:{port}", flush=True)
    await stop.wait()
    broker.close()
    await server.stop(_STOP_GRACE)


def _serve_keys(issuer: TokenIssuer, options: Options) -> None:
    port = options.http_port or 0
    try:
        bound = serve_keys(issuer, options.host, port)
    except OSError as error:
        raise _in_use(options.host, port, "--http-port", error) from error
    _log.info("keys served url=http://%s:%d%s", options.host, bound, JWKS_PATH)


def _build(broker: Broker, options: Options) -> tuple[grpc.aio.Server, int]:
    # Without so_reuseport=0 a second emulator would share the port and get every other connection.
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
            ("grpc.max_send_message_length", -1),
        ]
    )
    server.add_generic_rpc_handlers((ServiceHandler([Publisher(broker).service(), Subscriber(broker).service()]),))
    return server, _listen(server, options)


def _listen(server: grpc.aio.Server, options: Options) -> int:
    try:
        # Tried with a plain socket first: gRPC logs a failure in its own words and does not tell the reason.
        socket.create_server((options.host, options.port)).close()
        return server.add_insecure_port(f"{options.host}:{options.port}")
    except (OSError, RuntimeError) as error:
        raise _in_use(options.host, options.port, "--port", error) from error


def _in_use(host: str, port: int, flag: str, error: Exception) -> PortInUseError:
    # Python's own text repeats the address in parentheses.
    reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
    return PortInUseError(
        f"the Pub/Sub emulator cannot listen on {host}:{port} ({reason}); "
        f"free that port or choose another with {flag}"
    )
