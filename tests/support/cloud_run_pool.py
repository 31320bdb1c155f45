"""Cloud Run's side of a worker pool: starts and stops worker processes on calls of the emulated Admin API."""

import signal
import threading
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from local_emulators.supervisor import Service
from tests.support.fake_cloud_run import FakeCloudRun
from tests.support.worker_rig import DEADLINE_S, Rig


class WorkerProcesses:
    """Starts a worker when the number of instances becomes positive; sends SIGTERM when the number becomes 0."""

    def __init__(self, rig: Rig, cloud_run: FakeCloudRun, **variables: str) -> None:
        self._rig = rig
        self._variables = variables
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._cloud_run = cloud_run
        #: All workers started, the running worker last.
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
        except BaseException as error:  # noqa: BLE001 - reported in the test's thread
            self.errors.append(error)

    def _running(self) -> bool:
        return bool(self.started) and self.started[-1].alive
