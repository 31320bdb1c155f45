"""The workers of a run: Cloud Run's side of a worker pool, which an attack can use in turn with Cloud Run."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import TracebackType
from typing import Self

from local_emulators.errors import ServiceDiedError
from local_emulators.supervisor import Service
from tests.support.fake_cloud_run import FakeCloudRun

#: Starts of a worker: one that finds no Postgres ends, and Cloud Run starts it again.
_STARTS = 20


class Workers:
    """Runs the workers while the emulated Cloud Run has an instance, and stops them when it has none."""

    def __init__(self, services: list[Service], cloud_run: FakeCloudRun) -> None:
        """Take over running services."""
        self.services = services
        #: Number of times that the worker pool fell asleep.
        self.sleeps = 0
        #: The last lines of each worker that has ended by itself.
        self.ends: list[str] = []
        self._cloud_run = cloud_run
        self._wanted: SimpleQueue[int | None] = SimpleQueue()
        self._changed = threading.Condition()
        #: Held while workers are started, stopped or attacked.
        self._turn = threading.Lock()
        self._is_awake = True
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        self._cloud_run.on_change = self._wanted.put
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wanted.put(None)
        self._thread.join()

    @contextmanager
    def held(self) -> Iterator[list[Service]]:
        """The workers, which Cloud Run neither starts nor stops meanwhile; none while the pool sleeps."""
        with self._turn:
            if self._is_awake:
                self._start_ended()
            yield self.services if self._is_awake else []

    def wait_asleep(self, timeout_s: float) -> bool:
        """Wait until the worker pool sleeps; it may sleep already."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._is_awake, timeout_s)

    def stop(self) -> None:
        """Stop the workers that run."""
        with self._turn:
            for service in self.services:
                service.stop()

    def _start_ended(self) -> None:
        """Start each worker that has ended by itself, as Cloud Run does."""
        for service in self.services:
            if not service.alive:
                self.ends.append(service.describe_death())
                start(service)

    def _follow(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            if bool(wanted) is self._is_awake:
                continue
            with self._turn:
                for service in self.services:
                    start(service) if wanted else service.stop()
                self._is_awake = bool(wanted)
            if not wanted:
                with self._changed:
                    self.sleeps += 1
                    self._changed.notify_all()


def start(worker: Service) -> None:
    """Start a worker, again where it ends before it is ready."""
    for _ in range(_STARTS - 1):
        try:
            worker.start()
        except ServiceDiedError:
            continue
        return
    worker.start()
