"""Uploads, and waiting for what becomes of them."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from google.cloud.storage import Bucket

from benchmarks.checks import ROW_TIMES_QUERY, RowTimes
from benchmarks.errors import RunInvalidError
from benchmarks.pictures import Picture
from benchmarks.stage import Stage
from db.listen import Listener
from dropline.contract import Status

#: The longest wait for a set of rows: generous, since it only ends runs that are broken.
DEADLINE_S = 600.0
#: Uploads at once: as many as the client keeps connections.
_UPLOADS = 8
_ENDED_BADLY = (Status.FAILED, Status.SUPERSEDED, Status.DELETED)


def upload(bucket: Bucket, picture: Picture) -> None:
    """Upload one picture."""
    bucket.blob(picture.name).upload_from_string(picture.data, content_type=picture.content_type)


def upload_all(stage: Stage, pictures: Iterable[Picture]) -> int:
    """Upload all pictures, several at once; returns their number."""
    with stage.storage() as client, ThreadPoolExecutor(_UPLOADS) as threads:
        bucket = client.bucket(stage.bucket)
        return len(list(threads.map(lambda picture: upload(bucket, picture), pictures)))


def written_rows(listener: Listener, count: int) -> Iterator[int]:
    """The numbers 1 to `count`, each as one more row is captioned and its metadata written.

    Raises:
        RunInvalidError: a row ended otherwise, or they were not done in time.
    """
    written: set[int] = set()
    for notice in listener.notices(DEADLINE_S):
        if notice.status in _ENDED_BADLY:
            raise RunInvalidError(f"row {notice.id} of {notice.object_name} ended as {notice.status.value}")
        if notice.metadata_written and notice.id not in written:
            written.add(notice.id)
            yield len(written)
        if len(written) == count:
            return
    raise RunInvalidError(f"{len(written)} of {count} rows were done after {DEADLINE_S:g} s")


def wait_until_written(listener: Listener, count: int) -> None:
    """Waits for the end of `written_rows`; raises as it does."""
    for _ in written_rows(listener, count):
        pass


def row_times(stage: Stage) -> Sequence[RowTimes]:
    """All rows."""
    with stage.database() as database:
        return [RowTimes(*row) for row in database.execute(ROW_TIMES_QUERY)]
