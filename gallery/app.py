"""The web application: its routes and the handling that all of them share."""

from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from gallery import api, events, forms, login, page, pictures
from gallery.headers import GuardedHeaders
from gallery.resources import Resources


def create_app(resources: Resources) -> FastAPI:
    """The application on the given resources. Opens no connection."""
    app = FastAPI(title="Dropline", docs_url=None, redoc_url=None)
    app.state.resources = resources
    for routes in (page, pictures, forms, login, api, events):
        app.include_router(routes.router(resources))
    app.add_api_route("/healthz", _healthz, include_in_schema=False)
    app.add_middleware(GuardedHeaders, access=resources.access)
    return app


async def _healthz() -> PlainTextResponse:
    """For the container's health check: the process answers. Needs no token, no Postgres and no storage."""
    return PlainTextResponse("ok\n")
