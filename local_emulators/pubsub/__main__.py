"""`python -m local_emulators.pubsub`: the command line of the Pub/Sub emulator, and the gRPC server."""

import argparse
import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import grpc

from local_emulators.errors import PortInUseError
from local_emulators.pubsub import wire
from local_emulators.pubsub.emulator import Emulator
from local_emulators.pubsub.oidc import JWKS_PATH, TokenIssuer, serve_keys
from local_emulators.pubsub.publisher import Publisher
from local_emulators.pubsub.push import PushDispatcher
from local_emulators.pubsub.subscriber import Subscriber

#: Above Pub/Sub's limit of 10 MB a request; gRPC's default is 4 MiB.
_MAX_REQUEST_BYTES = 12 * 1024 * 1024
#: Seconds for running RPCs after a stop signal; open streams are cancelled at the end.
_STOP_GRACE = 0.5

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Addresses and the limit of concurrent pushes. Port 0 means any free port, `http_port` None no key server."""

    host: str
    port: int
    http_port: int | None = None
    push_concurrency: int = 32


async def serve(options: ServerOptions) -> None:
    """Serve until SIGTERM or SIGINT. Prints a line when ready. Raises PortInUseError."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    issuer = TokenIssuer()
    if options.http_port is not None:
        _serve_keys(issuer, options)
    pushes = PushDispatcher(issuer, concurrency=options.push_concurrency)
    emulator = Emulator(loop, on_subscription=pushes.attach)
    server, port = _build(emulator, options)
    await server.start()
    print(f"pubsub emulator ready on {options.host}:{port}", flush=True)
    await stop.wait()
    emulator.close()
    await server.stop(_STOP_GRACE)


def _serve_keys(issuer: TokenIssuer, options: ServerOptions) -> None:
    port = options.http_port or 0
    try:
        bound = serve_keys(issuer, options.host, port)
    except OSError as error:
        raise _in_use(options.host, port, "--http-port", error) from error
    _log.info("keys served url=http://%s:%d%s", options.host, bound, JWKS_PATH)


def _build(emulator: Emulator, options: ServerOptions) -> tuple[grpc.aio.Server, int]:
    # so_reuseport=0: by default a second emulator could share the port and get half of the connections.
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", _MAX_REQUEST_BYTES),
            ("grpc.max_send_message_length", -1),
        ]
    )
    server.add_generic_rpc_handlers((wire.RpcRouter([Publisher(emulator).rpcs(), Subscriber(emulator).rpcs()]),))
    return server, _listen(server, options)


def _listen(server: grpc.aio.Server, options: ServerOptions) -> int:
    try:
        # A plain socket first: gRPC's exception does not have the cause.
        socket.create_server((options.host, options.port)).close()
        return server.add_insecure_port(f"{options.host}:{options.port}")
    except (OSError, RuntimeError) as error:
        raise _in_use(options.host, options.port, "--port", error) from error


def _in_use(host: str, port: int, flag: str, error: Exception) -> PortInUseError:
    # Python's message ends with the address in parentheses.
    reason = str(getattr(error, "strerror", None) or error).partition(" (")[0]
    return PortInUseError(
        f"the Pub/Sub emulator cannot listen on {host}:{port} ({reason}); "
        f"free that port or choose another with {flag}"
    )


def parse_options(arguments: Sequence[str] | None = None) -> ServerOptions:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m local_emulators.pubsub", description="A Pub/Sub emulator.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8085, help="gRPC port, 0 for any (default: %(default)s)")
    parser.add_argument("--http-port", type=int, help="port that serves the keys of push tokens (default: none)")
    parser.add_argument(
        "--push-concurrency",
        type=int,
        default=32,
        help="concurrent requests per push subscription (default: %(default)s)",
    )
    parsed = parser.parse_args(arguments)
    return ServerOptions(parsed.host, parsed.port, parsed.http_port, parsed.push_concurrency)


def main() -> int:
    """Run until SIGTERM or SIGINT. Returns the exit status: 0, or 1 if a port is in use."""
    options = parse_options()
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    try:
        asyncio.run(serve(options))
    except PortInUseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
