"""The function under gunicorn: `gunicorn -c python:trigger_fn.server -k gthread 'trigger_fn.wsgi:create()'`."""

from pathlib import Path

import functions_framework
from flask import Flask

from dropline.log import get_logger
from trigger_fn import service


def create() -> Flask:
    """The framework's application. Wrong settings stop the process at start, not at the first event.

    Raises:
        SettingsError: a setting is missing or wrong.
    """
    service.current()
    source = Path(__file__).with_name("main.py")
    app: Flask = functions_framework.create_app("on_object_event", str(source), "http")
    get_logger(__name__).info("function_ready")
    return app
