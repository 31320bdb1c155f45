"""Server-sent events: each change of a row."""

from fastapi import APIRouter

from gallery.resources import Resources


def router(_resources: Resources) -> APIRouter:
    """The route of events."""
    return APIRouter(prefix="/api")
