"""The description of the API, `/openapi.json`."""

from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from gallery.schemas import Address, Problem

_WORDS = """\
Captions of the images of a bucket. Errors are problems (RFC 9457) with a stable `code`. On a gallery with tokens,
send `Authorization: Bearer …`; the scopes are read, submit and edit."""
#: Documents that are read or made without FastAPI.
_MODELS: tuple[type[BaseModel], ...] = (Problem, Address)


def openapi_of(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """A function for `app.openapi`; the description is made at its first call."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _describe(app)
        return app.openapi_schema

    return openapi


def _describe(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title="Dropline", version=app.version, description=_WORDS, routes=app.routes)
    components = document.setdefault("components", {})
    for model in _MODELS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        components.setdefault("schemas", {})[model.__name__] = schema
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    # A gallery on a loopback address needs no token.
    document["security"] = [{"token": []}, {}]
    return document
