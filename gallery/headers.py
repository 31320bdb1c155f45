"""Checks of every request and headers of every answer: the site, the size and time of the body, the headers."""

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dropline.errors import DroplineError
from gallery.access import Access
from gallery.limits import RequestTooLarge, RequestTooSlow
from gallery.problems import fault, problem_of

#: No inline script or style, no file of another site, and no frame of another site around the page.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # `no-referrer` would make browsers send `Origin: null` with forms of the page itself.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}
#: Most bytes of a body that is no file.
_MOST_BYTES = 65_536
#: Time for a body: so many seconds, and more for a large one. An unfinished request occupies a connection, also
#: where a client sends a byte now and then.
_BODY_S = 60.0
_LEAST_BYTES_PER_S = 8_192
_FILES_PATH = "/api/captions"


class Guard:
    """ASGI middleware: refuses requests of foreign sites and large bodies, and adds the security headers."""

    def __init__(self, app: ASGIApp, access: Access, most_file_bytes: int) -> None:
        """Wrap `app`; files may have `most_file_bytes`."""
        self._app = app
        self._access = access
        # With the other parts of the form.
        self._most_upload_bytes = most_file_bytes + _MOST_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        has_begun = False

        async def send_with_headers(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        headers = Headers(scope=scope)
        most = self._most_bytes(scope["path"], headers)
        try:
            self._access.check_site(headers)
            _check_size(_stated_size(headers), most)
        except DroplineError as error:
            await problem_of(error)(scope, receive, send_with_headers)
            return
        try:
            await self._app(scope, _bounded(receive, most), send_with_headers)
        except Exception:
            # Starlette's own answer to a fault is made outside of this middleware, without its headers.
            if not has_begun:
                await fault()(scope, receive, send_with_headers)
            raise

    def _most_bytes(self, path: str, headers: Headers) -> int:
        is_file = path == _FILES_PATH and headers.get("content-type", "").lower().startswith("multipart/form-data")
        return self._most_upload_bytes if is_file else _MOST_BYTES


def _bounded(receive: Receive, most: int) -> Receive:
    """A body without a stated size is counted while it arrives, and its time is limited."""
    received, begin, is_whole = 0, asyncio.get_running_loop().time(), False

    async def receive_bounded() -> Message:
        nonlocal received, is_whole
        if is_whole:
            return await receive()  # waits for the end of the connection
        try:
            async with asyncio.timeout_at(begin + _BODY_S + received / _LEAST_BYTES_PER_S):
                message = await receive()
        except TimeoutError:
            raise RequestTooSlow(
                f"only {received} bytes of the request's body arrived in time; use a faster network, or "
                "POST /api/uploads, whose upload can be resumed"
            ) from None
        received += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        _check_size(received, most)
        return message

    return receive_bounded


def _stated_size(headers: Headers) -> int:
    size = headers.get("content-length", "")
    return int(size) if size.isascii() and size.isdigit() else 0


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise RequestTooLarge(
            f"the body of the request has more than {most} bytes; POST /api/uploads takes larger files, "
            "up to DROPLINE_EVENTS__MAX_SIZE_BYTES"
        )
