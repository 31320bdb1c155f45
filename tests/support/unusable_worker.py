"""A real worker whose engine cannot be used: `python -m tests.support.unusable_worker`."""

import sys

from dropline.log import configure_process_logging
from dropline.settings import load_settings
from worker import app
from worker.celery_app import run_worker

if __name__ == "__main__":
    settings = load_settings()
    configure_process_logging(settings.log.level, settings.log.format, "worker")
    sys.exit(run_worker(app.build(settings, engine_module="tests.support.unusable_engine"), settings))
