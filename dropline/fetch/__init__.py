"""Fetching the image behind an address that a stranger may have chosen; public addresses only."""

from dropline.fetch.fetching import Fetched, fetch

__all__ = ["Fetched", "fetch"]
