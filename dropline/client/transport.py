"""The options of both clients' connections."""

import ipaddress
from typing import Any
from urllib.parse import urlsplit


def options(base_url: str) -> dict[str, Any]:
    """Keyword arguments of `httpx2.Client`."""
    return {
        # A proxy of the environment cannot reach a service of this machine.
        "trust_env": not _is_loopback(urlsplit(base_url).hostname or ""),
        "follow_redirects": False,
    }


def _is_loopback(host: str) -> bool:
    if host.rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
