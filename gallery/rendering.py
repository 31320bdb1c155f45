"""HTML from templates, and the files that pages refer to. Every value in a template is escaped."""

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import PurePath
from typing import Any

from fastapi import Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from dropline.images.placeholders import SIZE_PX

_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
#: An SVG of its own page runs no script and loads no file.
_SVG_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file beside the pages."""

    body: bytes
    content_type: str
    #: Of the contents; a part of the address, so that browsers may keep the file for ever.
    digest: str

    def response(self, cache_control: str, status: int = 200) -> Response:
        """The file as an answer, with a fixed type."""
        headers = {"cache-control": cache_control}
        if self.content_type == _TYPES[".svg"]:
            headers["content-security-policy"] = _SVG_POLICY
        return Response(self.body, status, headers, self.content_type)


class Pages:
    """The templates and static files of the package, read once."""

    def __init__(self) -> None:
        """Read all files."""
        self._environment = Environment(
            loader=PackageLoader("gallery"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self.files = _static_files()
        self._environment.globals["static"] = self._address
        self._environment.globals["placeholder_size"] = f"{SIZE_PX[0]}x{SIZE_PX[1]}"

    def html(self, template: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
        """A template with its values. A page is made for each view; a browser may show it on the way back."""
        text = self._environment.get_template(template).render(values)
        return HTMLResponse(text, status, {"cache-control": "private, no-cache"})

    def _address(self, name: str) -> str:
        return f"/static/{self.files[name].digest}/{name}"


@cache
def load_pages() -> Pages:
    """The templates and static files, read at the first call."""
    return Pages()


def _static_files() -> dict[str, StaticFile]:
    found = {}
    for entry in resources.files("gallery").joinpath("static").iterdir():
        kind = _TYPES.get(PurePath(entry.name).suffix)
        if kind:
            body = entry.read_bytes()
            found[entry.name] = StaticFile(body, kind, hashlib.sha256(body).hexdigest()[:12])
    return found
