"""`python -m local_emulators.pubsub`: run the emulator."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Sequence

from local_emulators.errors import PortInUseError
from local_emulators.pubsub.server import Options, serve


def parse_options(arguments: Sequence[str] | None = None) -> Options:
    """The command line as options."""
    parser = argparse.ArgumentParser(prog="python -m local_emulators.pubsub", description="A Pub/Sub emulator.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8085, help="gRPC port, 0 for any (default: %(default)s)")
    parser.add_argument("--http-port", type=int, help="port that serves the keys of push tokens (default: none)")
    parser.add_argument(
        "--push-concurrency",
        type=int,
        default=32,
        help="requests under way per push subscription (default: %(default)s)",
    )
    parsed = parser.parse_args(arguments)
    return Options(parsed.host, parsed.port, parsed.http_port, parsed.push_concurrency)


def main() -> int:
    """Run until SIGTERM or SIGINT; 0 then, 1 where the port is taken."""
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
