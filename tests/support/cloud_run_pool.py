"""Cloud Run's part of a worker pool: real worker processes, as many as the Admin API's stand-in was last told."""

import signal
import threading
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from local_emulators.supervisor import Service
from tests.support.fake_cloud_run import FakeCloudRun
from tests.support.worker_rig import DEADLINE_S, Rig


class WorkerProcesses:
    """Starts a worker where the pool has instances, and sends it SIGTERM where it has none. One at a time."""

    def __init__(self, rig: Rig, cloud_run: FakeCloudRun, **variables: str) -> None:
        self._rig = rig
        self._variables = variables
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._cloud_run = cloud_run
        #: Workers that have run, the present one last.
        self.started: list[Service] = []
        self.errors: list[BaseException] = []

    def __enter__(self) -> Self:
        self._cloud_run.on_change = self._wanted.put
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wanted.put(None)
        self._thread.join(DEADLINE_S)
        assert self.errors == []

    def _follow(self) -> None:
        try:
            while (wanted := self._wanted.get()) is not None:
                if wanted and not self._running():
                    self.started.append(self._rig.worker(f"worker-{len(self.started)}", **self._variables))
                elif not wanted and self._running():
                    self.started[-1].signal(signal.SIGTERM)
                    assert self.started[-1].wait_for_exit(DEADLINE_S)
        except BaseException as error:  # noqa: BLE001 - the test's own thread is to see it
            self.errors.append(error)

    def _running(self) -> bool:
        return bool(self.started) and self.started[-1].alive
