"""The function, with foreign lines at its start: gunicorn's `tests.support.noisy_function:create()`."""

from flask import Flask

from tests.support.noisy_worker import make_noise
from trigger_fn import wsgi


def create() -> Flask:
    """As `trigger_fn.wsgi.create`."""
    app = wsgi.create()
    make_noise()
    return app
