"""Images by generation, and their thumbnails."""

from fastapi import APIRouter

from gallery.resources import Resources


def router(_resources: Resources) -> APIRouter:
    """The routes of images."""
    return APIRouter(include_in_schema=False)
