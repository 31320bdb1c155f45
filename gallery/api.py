"""The JSON API."""

from fastapi import APIRouter

from gallery.resources import Resources


def router(_resources: Resources) -> APIRouter:
    """The routes of the JSON API."""
    return APIRouter(prefix="/api")
