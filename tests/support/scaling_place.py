"""Functions and workers as threads, with a real Redis and an emulated Cloud Run."""

import contextlib
import threading
from collections.abc import Callable

from redis import Redis

from dropline.contract import CAPTION_QUEUE
from dropline.errors import TransientError
from dropline.scaling.activation import Activator
from dropline.scaling.deactivation import Deactivator
from dropline.scaling.mark import PoolMark
from dropline.scaling.protocol import ScalingPolicy
from dropline.scaling.worker_pool import make_worker_pool
from tests.support.fake_cloud_run import POOL, FakeCloudRun

POLICY = ScalingPolicy()
DEADLINE_S = 120


class Place:
    """Functions as threads, and a worker thread for as long as the pool has an instance."""

    def __init__(self, redis_url: str, redis: "Redis", cloud_run: FakeCloudRun) -> None:
        self._redis, self._url, self._cloud_run = redis, redis_url, cloud_run
        self._rows: dict[int, bool] = {}
        self._lock = threading.Lock()
        self._workers: list[threading.Thread] = []
        self._serving = False
        self._activators = [self._connect(Activator) for _ in range(2)]
        cloud_run.on_change = self._on_change

    def _connect(self, kind: type[Activator]) -> Activator:
        return kind(PoolMark.connect(self._url, 30), make_worker_pool(POOL, self._cloud_run.url), POLICY)

    def unfinished(self) -> list[int]:
        with self._lock:
            return [row for row, finished in self._rows.items() if not finished]

    def deliver_until_acknowledged(self, row: int) -> None:
        """Deliver an event again and again, as Pub/Sub does."""
        while True:
            with self._lock:
                if self._rows.setdefault(row, False):
                    return None
            self._redis.lpush(CAPTION_QUEUE, row)
            with contextlib.suppress(TransientError):
                return self._activators[row % 2].ensure_awake()

    def _on_change(self, instances: int) -> None:
        with self._lock:
            if instances and not self._serving:
                self._serving = True
                self._workers.append(threading.Thread(target=self._work, daemon=True))
                self._workers[-1].start()

    def _work(self) -> None:
        pool = make_worker_pool(POOL, self._cloud_run.url)
        mark = PoolMark.connect(self._url, 30)
        deactivator = Deactivator(mark, pool, POLICY, lambda: 0.0 if self.unfinished() else None)
        with contextlib.closing(mark), contextlib.closing(pool):
            while self._is_wanted():
                for row in self.unfinished():
                    self._redis.lpush(CAPTION_QUEUE, row)
                while self._caption_one():
                    pass
                deactivator.try_scale_to_zero()

    def _is_wanted(self) -> bool:
        with self._lock:
            self._serving = self._cloud_run.instances > 0
            return self._serving

    def _caption_one(self) -> bool:
        row = self._redis.rpop(CAPTION_QUEUE)
        if row is None:
            return False
        assert isinstance(row, bytes)
        with self._lock:
            self._rows[int(row)] = True
        return True

    def close(self) -> None:
        for worker in self._workers:
            worker.join(DEADLINE_S)


def eventually(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    pause = threading.Event()
    for _ in range(DEADLINE_S * 100):
        if holds():
            return
        pause.wait(0.01)
    raise AssertionError(f"not within {DEADLINE_S} s")
