"""Structured logs: a JSON line per event on standard error, with the keys of Cloud Logging."""

import functools
import logging
import sys
from typing import Literal, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from dropline.log_bursts import BurstHandler, BurstLimiter
from dropline.log_capture import StderrCapture, install_hooks

LogFormat = Literal["json", "console"]

#: Longest text of a field, in characters; Cloud Logging refuses an entry of more than 256 KiB.
_LONGEST_FIELD = 20_000


def configure_process_logging(level: str, fmt: LogFormat, service: str) -> None:
    """`configure_logging` for a process of Dropline's own: everything on its standard error becomes a record.

    Call at the composition root, before threads and children start. Forked children need no call.
    """
    capture = _captured_stderr()
    configure_logging(level, fmt, service, cast("TextIO", capture.stream))
    install_hooks(capture.stream)


@functools.cache
def _captured_stderr() -> StderrCapture:
    """The capture of this process or of the parent that forked this process."""
    return StderrCapture()


def log_descriptor() -> int:
    """The descriptor of log lines: for a process that this one starts, and that captures its own lines."""
    return _captured_stderr().stream.fileno() if _captured_stderr.cache_info().currsize else 2


def drain_stderr() -> None:
    """Log the last lines on standard error; before `os._exit`, which runs no exit handlers."""
    if _captured_stderr.cache_info().currsize:
        _captured_stderr().drain()
    logging.shutdown()


def configure_logging(level: str, fmt: LogFormat, service: str, stream: TextIO | None = None) -> None:
    """Send the records of structlog and of the standard library to the same stream, in the same format.

    Args:
        level: `DEBUG`, `INFO`, `WARNING` or `ERROR`.
        fmt: `json` for machines, `console` for people.
        service: name of the process, added to every line.
        stream: the output stream; standard error by default, the real one in a process that captures its lines.
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
    if stream is None and _captured_stderr.cache_info().currsize:
        stream = cast("TextIO", _captured_stderr().stream)
    handler = BurstHandler(stream or sys.stderr, BurstLimiter())
    foreign = [*shared, structlog.stdlib.add_logger_name]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=_renderers(fmt))
    )
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
    return [drop, structlog.processors.format_exc_info, _bounded, _cloud_keys, structlog.processors.JSONRenderer()]


def _bounded(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {name: value[:_LONGEST_FIELD] if isinstance(value, str) else value for name, value in event.items()}


def _cloud_keys(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Cloud Logging reads `severity` and `message`."""
    event["severity"] = str(event.pop("level", "info")).upper()
    event["message"] = event.pop("event", "")
    return event
