"""The functions-framework entry point, for example `functions-framework --target on_object_event`.

The framework loads this file by its path, as module `main`; everything else comes from the installed distribution.
"""

import functions_framework
from flask import Request, Response

from trigger_fn import service


@functions_framework.http
def on_object_event(request: Request) -> Response:
    """Take one storage event: a Pub/Sub push or a CloudEvent."""
    return service.current().respond(request)
