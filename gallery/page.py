"""The page: HTML made on the server."""

from fastapi import APIRouter

from gallery.resources import Resources


def router(_resources: Resources) -> APIRouter:
    """The routes of the page, its stylesheet and its script."""
    return APIRouter(include_in_schema=False)
