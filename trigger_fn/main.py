"""The functions-framework entry point, for example `functions-framework --target on_object_event`.

The framework loads the file by path, as module `main`; all other modules come from the installed distribution.
"""

import functions_framework
from flask import Request, Response

from trigger_fn import service


@functions_framework.http
def on_object_event(request: Request) -> Response:
    """Handle a storage event: a Pub/Sub push or a CloudEvent."""
    return service.current().respond(request)
