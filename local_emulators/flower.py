"""Flower, Celery's monitor, with a password of its own: started by the stack, or as a program by `compose.yaml`.

The password and the URL of Redis are in the environment of the process, readable by its owner alone, never on a
command line or in a log.
"""

import argparse
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path

from dropline.settings import load_settings, require
from local_emulators.directory import write_private
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment
from local_emulators.supervisor import Service, Supervisor

#: The user's name at Flower.
USER = "dropline"
#: Celery loads Flower as one of its commands.
_ARGV = (sys.executable, "-m", "celery", "flower")


def read_or_make_password(path: Path) -> tuple[str, bool]:
    """The password in the file, and True if this call has made the file; the owner alone can read it."""
    if path.exists():
        return path.read_text().strip(), False
    password = secrets.token_hex(16)
    write_private(path, password + "\n")
    return password, True


def start(supervisor: Supervisor, port: int, directory: Path, broker_url: str, password: str) -> Service:
    """Starts Flower on `port` in the working directory `directory`.

    Raises:
        PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "Flower")
    return supervisor.start(
        Command(
            name="flower",
            argv=_ARGV,
            ready_lines=("Visit me at",),
            environment=process_environment(**_variables(HOST, port, broker_url, password)),
            # Celery and Flower read configuration files of the working directory.
            cwd=directory,
        )
    )


def _variables(address: str, port: int, broker_url: str, password: str) -> Mapping[str, str]:
    return {
        "CELERY_BROKER_URL": broker_url,
        "FLOWER_ADDRESS": address,
        "FLOWER_PORT": str(port),
        "FLOWER_BASIC_AUTH": f"{USER}:{password}",
    }


def main() -> None:
    """Run Flower with Redis of the settings, in place of this process.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    parser = argparse.ArgumentParser(prog="python -m local_emulators.flower", description=__doc__)
    parser.add_argument("--address", default=HOST)
    parser.add_argument("--port", type=int, default=5555)
    parser.add_argument("--password-file", type=Path, required=True, help="made at the first start")
    arguments = parser.parse_args()
    broker_url = require(load_settings().broker.url, "DROPLINE_BROKER__URL")
    password, _ = read_or_make_password(arguments.password_file)
    variables = _variables(arguments.address, arguments.port, broker_url, password)
    os.execve(_ARGV[0], _ARGV, process_environment(**variables))  # noqa: S606 - fixed arguments


if __name__ == "__main__":
    main()
