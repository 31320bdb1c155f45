"""The mark and the queue in a real Redis, beside the model they are compared with."""

from redis import Redis

from dropline.scaling.awake import MARK_KEY, AwakeMark
from dropline.scaling.protocol import Claim, Claimed, Swap
from tests.support.scaling_store import MemoryStore

QUEUE = "dropline.captions"


class RedisStore:
    """Does every step in both, and compares."""

    def __init__(self, client: "Redis", mark: AwakeMark) -> None:
        self._client = client
        self._mark = mark
        self._model = MemoryStore()
        self._client.flushall()

    def look(self) -> str | None:
        found = self._mark.look()
        assert found == self._model.look()
        return found

    def swap(self, swap: Swap) -> bool:
        done = self._mark.swap(swap)
        assert done == self._model.swap(swap)
        self.look()
        return done

    def claim(self, claim: Claim) -> Claimed:
        claimed = self._mark.claim(claim)
        assert claimed is self._model.claim(claim)
        self.look()
        return claimed

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
