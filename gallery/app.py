"""The web application: routes and their common handling."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from importlib import metadata

from fastapi import FastAPI
from starlette.responses import PlainTextResponse

from dropline.deadline import START_WAIT_S
from gallery import api, backfills, edits, events, exports, forms, login, page, pictures, recaptions
from gallery.connection import ConnectionLimit
from gallery.headers import Guard
from gallery.limits import Limits
from gallery.openapi import openapi_of
from gallery.page_route import add_page_of_unknown_address
from gallery.problems import add_problem_handlers
from gallery.resources import Resources
from gallery.threads import set_threads


def create_app(resources: Resources) -> FastAPI:
    """The application on the given resources. Opens no connection before it is served."""
    settings = resources.settings
    began = time.monotonic()

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        set_threads(settings.gallery.threads)
        listening = asyncio.create_task(resources.hub.run())
        await resources.hub.has_tried.wait()
        yield
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening

    async def started() -> PlainTextResponse:
        """For the start-up probe: 503 until Postgres has answered, whatever it answered, for a limited time."""
        if resources.hub.has_answer or time.monotonic() - began >= START_WAIT_S:
            return PlainTextResponse("started\n")
        return PlainTextResponse("starting\n", 503)

    app = FastAPI(
        title="Dropline", version=metadata.version("dropline"), docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.resources = resources
    # Cuts the connection of a client's address. Both are set by the server, which alone has the connections.
    app.state.disconnect = lambda _address: None
    app.state.count_connections = lambda: 0
    app.state.limits = Limits.from_settings(settings.gallery)
    for routes in (page, pictures, forms, login, api, backfills, edits, exports, recaptions, events):
        app.include_router(routes.router(resources))
    app.add_api_route("/healthz", _healthz, include_in_schema=False)
    app.add_api_route("/started", started, include_in_schema=False)
    add_problem_handlers(app)
    add_page_of_unknown_address(app)
    app.openapi = openapi_of(app)  # type: ignore[method-assign]
    app.add_middleware(ConnectionLimit, settings=settings.gallery)
    # The outermost: adds the security headers to each answer.
    app.add_middleware(Guard, access=resources.access, most_file_bytes=settings.events.max_size_bytes)
    return app


async def _healthz() -> PlainTextResponse:
    """For the container's health check: the process answers. Needs no token, no Postgres and no storage."""
    return PlainTextResponse("ok\n")
