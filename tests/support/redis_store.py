"""The mark and the queue in a real Redis, compared with the reference model."""

from redis import Redis

from dropline.scaling.mark import MARK_KEY, PoolMark
from dropline.scaling.protocol import Admission, BeginScaleToZero, ConfirmMark, ReplaceMark
from tests.support.scaling_store import MemoryStore

QUEUE = "dropline.captions"


class RedisStore:
    """Executes every step in Redis and in the model, and compares."""

    def __init__(self, client: "Redis", mark: PoolMark) -> None:
        self._client = client
        self._mark = mark
        self._model = MemoryStore()
        self._client.flushall()

    def read(self) -> str | None:
        found = self._mark.read()
        assert found == self._model.read()
        return found

    def replace(self, swap: ReplaceMark) -> bool:
        done = self._mark.replace(swap)
        assert done == self._model.replace(swap)
        self.read()
        return done

    def begin(self, claim: BeginScaleToZero) -> Admission:
        claimed = self._mark.begin(claim)
        assert claimed is self._model.begin(claim)
        self.read()
        return claimed

    def confirm(self, renewal: ConfirmMark) -> bool:
        confirmed = self._mark.confirm(renewal)
        assert confirmed == self._model.confirm(renewal)
        self.read()
        return confirmed

    def push(self, row: int) -> None:
        self._client.lpush(QUEUE, row)
        self._model.push(row)

    def pop(self) -> int | None:
        found = self._client.rpop(QUEUE)
        assert found is None or isinstance(found, bytes)
        row = None if found is None else int(found)
        assert row == self._model.pop()
        return row

    def queued(self) -> list[int]:
        return self._model.queued()

    def expire(self) -> None:
        self._client.delete(MARK_KEY)
        self._model.expire()

    def flush(self) -> None:
        self._client.flushall()
        self._model.flush()
