"""gunicorn's configuration, `gunicorn --config python:trigger_fn.server`: its lines are JSON like all others."""

from typing import Any

from gunicorn.glogging import Logger

from dropline.errors import SettingsError
from dropline.log import configure_process_logging
from dropline.settings import LogSettings, load_settings


class JsonLogger(Logger):
    """Sends gunicorn's records to the log of Dropline; the first call is in gunicorn's parent process."""

    def setup(self, cfg: Any) -> None:
        """Configure the process' log."""
        super().setup(cfg)
        settings = _log_settings()
        configure_process_logging(settings.level, settings.format, "function")
        self.error_log.handlers.clear()
        self.error_log.propagate = True


def _log_settings() -> LogSettings:
    """Wrong settings end the child, with a line in the log."""
    try:
        return load_settings().log
    except SettingsError:
        return LogSettings()


logger_class = JsonLogger
