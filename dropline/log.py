"""Structured logs: a JSON line per event on standard error, with the keys of Cloud Logging."""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["json", "console"]


def configure_logging(level: str, fmt: LogFormat, service: str, stream: TextIO | None = None) -> None:
    """Send the records of structlog and of the standard library to the same stream, in the same format.

    Args:
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        fmt: `json` for machines, `console` for people.
        service: name of the process, added to every line.
        stream: the output stream; standard error by default.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        _service_adder(service),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=_renderers(fmt)))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger that binds key-value pairs; configured on first use, so a module may get its logger at import."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _service_adder(service: str) -> Processor:
    def add(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event.setdefault("service", service)
        return event

    return add


def _renderers(fmt: LogFormat) -> list[Processor]:
    drop = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    if fmt == "console":
        return [drop, structlog.dev.ConsoleRenderer(colors=False)]
    return [drop, structlog.processors.format_exc_info, _cloud_keys, structlog.processors.JSONRenderer()]


def _cloud_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cloud Logging reads `severity` and `message`."""
    event["severity"] = str(event.pop("level", "info")).upper()
    event["message"] = event.pop("event", "")
    return event
