"""A real worker with failpoints: `python -m tests.support.failpoint_worker`."""

import functools
import sys
from collections.abc import Callable
from typing import Any

from kombu.transport.redis import QoS

from dropline.images.decoder import DecoderProcess
from dropline.log import configure_process_logging
from dropline.settings import load_settings
from dropline.storage.objects import ObjectStore
from tests.support.failpoints import hit, note_use
from worker import app
from worker.celery_app import run_worker
from worker.pipeline import Pipeline


def _around(
    owner: Any, name: str, *, before: str | None = None, after: str | None = None, counted: bool = False
) -> None:
    function: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            hit(before)
        if counted:
            note_use(name)
        result = function(*args, **kwargs)
        if after:
            hit(after)
        return result

    setattr(owner, name, wrapped)


def _install() -> None:
    _around(ObjectStore, "download", before="claimed", after="downloaded", counted=True)
    _around(DecoderProcess, "decode", before="decoding", counted=True)
    _around(Pipeline, "_commit_caption", before="before-commit", after="committed")
    _around(ObjectStore, "write_metadata", after="patched")
    _around(Pipeline, "run", after="before-acknowledge")
    _around(app.ProcessResources, "release_lease", before="releasing")
    # Between the BRPOP and the record of the unacknowledged message, the message exists only in the worker.
    _around(QoS, "append", before="append")


def main(**modules: str) -> int:
    """As `worker.app.main`, with failpoints and the counting engine.

    Args:
        modules: further modules for `worker.app.build`.
    """
    settings = load_settings()
    configure_process_logging(settings.log.level, settings.log.format, "worker")
    _install()
    built = app.build(settings, engine_module="tests.support.failpoint_engine", **modules)
    app.check_database(settings)
    return run_worker(built, settings)


if __name__ == "__main__":
    sys.exit(main())
