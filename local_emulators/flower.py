"""Flower, Celery's monitor, with a password of its own: started by the stack, or as a program by `compose.yaml`.

The password and the URL of Redis are in the environment of the process, readable by its owner alone, never on a
command line or in a log.
"""

import argparse
import os
import secrets
import sys
from pathlib import Path

from dropline.settings import load_settings, require
from local_emulators.directory import write_private
from local_emulators.ports import HOST, require_free
from local_emulators.process import Command, process_environment, python_path
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


def start(supervisor: Supervisor, port: int, broker_url: str, password_file: Path) -> Service:
    """Starts Flower on `port`.

    Raises:
        PortInUseError, ServiceDiedError, ServiceNotReadyError.
    """
    require_free(port, "Flower")
    return supervisor.start(
        Command(
            name="flower",
            argv=(
                *(sys.executable, "-m", "local_emulators.flower"),
                *("--port", str(port), "--password-file", str(password_file)),
            ),
            ready_lines=("Visit me at",),
            environment=process_environment(PYTHONPATH=python_path(), DROPLINE_BROKER__URL=broker_url),
        )
    )


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
    password, _ = read_or_make_password(arguments.password_file)
    variables = {
        "CELERY_BROKER_URL": require(load_settings().broker.url, "DROPLINE_BROKER__URL"),
        "FLOWER_ADDRESS": arguments.address,
        "FLOWER_PORT": str(arguments.port),
        "FLOWER_BASIC_AUTH": f"{USER}:{password}",
    }
    # Celery and Flower read configuration files of the working directory.
    os.chdir(arguments.password_file.parent)
    os.execve(_ARGV[0], _ARGV, process_environment(**variables))  # noqa: S606 - fixed arguments


if __name__ == "__main__":
    main()
