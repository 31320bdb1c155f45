"""Images by generation: copies for pages, and the original as a download.

No byte of an upload is served under a type that a browser runs: a copy is WebP of this service, and an original is
an attachment of unknown type. The bucket stays private.
"""

from dataclasses import dataclass
from functools import cache
from urllib.parse import quote

from fastapi import APIRouter, Depends, Response

from db import reads
from dropline import caption_id
from dropline.contract import ObjectVersion
from dropline.errors import DroplineError, ImageRefused, InvalidCaptionId, InvalidImage, ObjectGone
from dropline.images.placeholders import BROKEN, GONE, placeholder
from dropline.images.renditions import CONTENT_TYPE, Rendition
from dropline.log import get_logger
from gallery.access import Scope, requires
from gallery.page_route import NoSuchPage, page_route
from gallery.rendering import load_pages
from gallery.resources import Resources
from gallery.streaming import TimedStream, slices_of
from gallery.threads import in_thread

log = get_logger(__name__)

#: A generation never changes. Private: a shared cache must not serve an image to a person without a token.
_FOR_EVER = "private, max-age=31536000, immutable"
#: An image that is gone or damaged stays so, but an operator may install a decoder or raise a limit.
_A_WHILE = "private, max-age=300"
_SANDBOX = "default-src 'none'; sandbox"


def router(resources: Resources) -> APIRouter:
    """The routes of images."""
    routes = APIRouter(include_in_schema=False, route_class=page_route(load_pages()))
    pictures = _Pictures(resources)
    for path, endpoint in (
        ("/pictures/{key}/{rendition}.webp", pictures.copy),
        ("/pictures/{key}/original", pictures.original),
    ):
        routes.add_api_route(path, endpoint, dependencies=[Depends(requires(Scope.READ))])
    return routes


@dataclass(frozen=True, slots=True)
class _Placeholders:
    """WebP files."""

    gone: bytes
    broken: bytes


@cache
def _placeholders() -> _Placeholders:
    """Drawn at the first call."""
    return _Placeholders(placeholder(GONE, "The object is gone"), placeholder(BROKEN, "No picture"))


class _Pictures:
    def __init__(self, resources: Resources) -> None:
        self._database = resources.reader
        self._copies = resources.copies
        self._placeholders = _placeholders()

    async def copy(self, key: str, rendition: Rendition) -> Response:
        """A copy of an image; a placeholder, with the status of the error, where there is none."""
        version = await in_thread(lambda: self._version(key))
        try:
            data = await self._copies.get(version, rendition)
        except ObjectGone:
            return _picture(self._placeholders.gone, _A_WHILE, 404)
        except (InvalidImage, ImageRefused):
            return _picture(self._placeholders.broken, _A_WHILE, 415)
        except DroplineError as error:
            log.warning("no_copy", code=error.code, error=str(error), object=version.uri)
            return _picture(self._placeholders.broken, "no-store", 503)
        return _picture(data, _FOR_EVER)

    async def original(self, key: str) -> Response:
        """The uploaded object, as a download. Cloud Run refuses an answer of more than 32 MiB with its size."""
        version = await in_thread(lambda: self._version(key))
        data = await self._copies.original(version)
        headers = _headers(_FOR_EVER) | {"content-disposition": _attachment(version.name)}
        return TimedStream(slices_of(data), "application/octet-stream", headers)

    def _version(self, key: str) -> ObjectVersion:
        """The object version of an id that has a row: an id alone opens no object of the bucket."""
        try:
            version, _ = caption_id.decode(key)
        except InvalidCaptionId:
            raise NoSuchPage("this address belongs to no picture") from None
        with self._database.transaction() as connection:
            if not reads.rows_of_object(connection, version.bucket, version.name, version.generation):
                raise NoSuchPage("no row has this picture")
        return version


def _picture(data: bytes, cache_control: str, status: int = 200) -> Response:
    return Response(data, status, _headers(cache_control), CONTENT_TYPE)


def _headers(cache_control: str) -> dict[str, str]:
    return {"cache-control": cache_control, "content-security-policy": _SANDBOX}


def _attachment(object_name: str) -> str:
    """The header that makes browsers save the bytes, under the last part of the name (RFC 6266)."""
    name = object_name.rpartition("/")[2] or "image"
    return f"attachment; filename*=UTF-8''{quote(name, safe='')}"
