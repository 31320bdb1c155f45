"""A real engine process, and a child's use of the engine."""

import contextlib
import select
import time
from collections.abc import Callable, Iterator

from dropline.contract import Caption, Dimensions, TaskPrompt, TaskRequest
from dropline.settings import EngineSettings, LogSettings
from tests.support.scripted_engine import SIZE
from worker.engine.client import EngineClient
from worker.engine.process import EngineProcess
from worker.engine.slot import Pixels
from worker.engine.wire import CaptionRequest

CAPTION = TaskRequest(TaskPrompt.CAPTION)
ORIGINAL = Dimensions(SIZE, SIZE)
DEADLINE_S = 120.0


@contextlib.contextmanager
def running(module: str, **settings: object) -> Iterator[EngineProcess]:
    """A ready engine; closed at the end."""
    engine = EngineProcess(EngineSettings.model_validate(settings), LogSettings(level="DEBUG"), module=module)
    try:
        engine.start()
        engine.wait_ready(DEADLINE_S)
        yield engine
    finally:
        engine.close()


def client_of(engine: EngineProcess) -> EngineClient:
    """A client, as in a child of the engine's worker."""
    return EngineClient(engine.address, engine.authkey)


def caption(
    client: EngineClient, pixels: Pixels, *, isolated: bool = False, timeout_s: float = DEADLINE_S
) -> Caption:
    """Caption an image."""
    return client.caption(CaptionRequest(pixels, CAPTION, ORIGINAL, isolated), timeout_s=timeout_s)


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until another process has made the condition true."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def readable(fd: int, timeout_s: float = DEADLINE_S) -> bool:
    """True if the descriptor becomes readable in time."""
    return bool(select.select([fd], [], [], timeout_s)[0])
