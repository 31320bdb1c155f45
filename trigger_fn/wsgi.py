"""The function under gunicorn: `gunicorn -c python:trigger_fn.server -k gthread 'trigger_fn.wsgi:create()'`."""

from pathlib import Path

import functions_framework
from flask import Flask

from dropline.errors import DroplineError
from dropline.log import get_logger
from trigger_fn import service

#: With this exit status of a worker process, gunicorn ends instead of starting the process again.
_BOOT_FAILED = 3


def create() -> Flask:
    """The framework's application. Wrong settings stop the process at start, not at the first event.

    Raises:
        SystemExit: a setting is missing or wrong; the reason is one line of the log.
    """
    try:
        service.current()
    except DroplineError as error:
        get_logger(__name__).error("function_not_started", code=error.code, error=str(error))
        raise SystemExit(_BOOT_FAILED) from None
    source = Path(__file__).with_name("main.py")
    app: Flask = functions_framework.create_app("on_object_event", str(source), "http")
    get_logger(__name__).info("function_ready")
    return app
