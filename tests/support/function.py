"""The function served by functions-framework, inside the test's process."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType

import functions_framework
import pytest
from flask import Flask
from werkzeug.test import TestResponse

import trigger_fn
from tests.support.deliveries import Delivery
from trigger_fn import service
from trigger_fn.endpoint import Endpoint


def serve(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> Flask:
    """The framework's own application around `endpoint`, loaded from `main.py` as in production."""
    # The framework changes all three for the rest of the process.
    monkeypatch.setenv("FUNCTION_TARGET", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, "main", ModuleType("main"))
    monkeypatch.setattr(service, "current", lambda: endpoint)
    source = Path(trigger_fn.__file__).with_name("main.py")
    app: Flask = functions_framework.create_app("on_object_event", str(source), "http")
    return app


def deliver(app: Flask, delivery: Delivery, authorization: str = "") -> TestResponse:
    """Post a delivery, as Pub/Sub does."""
    headers = delivery.headers | ({"authorization": authorization} if authorization else {})
    return app.test_client().post("/", data=delivery.body, headers=headers)


def deliver_all(app: Flask, deliveries: list[Delivery], at_once: int = 16) -> list[int]:
    """Post many deliveries from several threads; returns the statuses, in order."""
    with ThreadPoolExecutor(at_once) as threads:
        return list(threads.map(lambda delivery: deliver(app, delivery).status_code, deliveries))
