"""Dropline: drop an image into a bucket; seconds later its caption is metadata and a row in Postgres."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dropline.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client"]

if not TYPE_CHECKING:  # for mypy, the names above are all

    def __getattr__(name: str) -> object:
        """Load the client on first use: no other part of Dropline needs its library."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            from dropline import client
        except ModuleNotFoundError as error:
            if error.name != "httpx2":
                raise
            raise ImportError("the client needs httpx2: pip install 'dropline[client]'") from error
        return getattr(client, name)
