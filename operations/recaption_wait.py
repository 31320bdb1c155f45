"""Waits for the captions of rows a command has made due, by NOTIFY."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from db import recaptions
from db.listen import Notice, ReconnectingListener
from db.session import Database, reader_settings
from db.start_check import READER
from dropline.contract import ChangeNotice
from dropline.settings import Settings

_APPLICATION = "dropline-recaption-wait"
#: Rows of one statement.
_CHUNK = 10_000


def wait_for_captions(
    settings: Settings, row_ids: Sequence[int], timeout_s: float | None
) -> tuple[dict[str, int], int]:
    """Wait until no row waits for a caption: the ends, and the number of rows without an end within `timeout_s`.

    Raises:
        DatabaseUnavailable: the connection to Postgres was lost, and so were the attempts to reconnect.
    """
    reader = reader_settings(settings)
    with closing(Database.connect(reader, _APPLICATION, READER, connections=1)) as database:
        waiting = _Waiting(database, row_ids)
        with (
            ReconnectingListener(reader, _APPLICATION) as listener,
            closing(listener.follow(waiting, timeout_s)) as ended,
        ):
            for _ in ended:
                if not waiting.row_ids:
                    break
        return waiting.ends(), len(waiting.row_ids)


class _Waiting:
    """Rows without a new caption, read for a listener."""

    def __init__(self, database: Database, row_ids: Iterable[int]) -> None:
        self._database = database
        self._all = list(row_ids)
        self.row_ids = set(self._all)

    def catch_up(self) -> Iterator[None]:
        """Read every waiting row."""
        left: set[int] = set()
        for chunk in _chunks(list(self.row_ids)):
            with self._database.transaction() as connection:
                left |= recaptions.unfinished(connection, chunk)
        self.row_ids = left
        yield None

    def read(self, notice: Notice) -> Iterator[None]:
        """Read the row of a notice."""
        if isinstance(notice, ChangeNotice) and notice.id in self.row_ids and notice.status.is_terminal:
            with self._database.transaction() as connection:
                if not recaptions.unfinished(connection, [notice.id]):
                    self.row_ids.discard(notice.id)
                    yield None

    def ends(self) -> dict[str, int]:
        """The ends of the rows, without the waiting rows."""
        found: dict[str, int] = {}
        for chunk in _chunks([row_id for row_id in self._all if row_id not in self.row_ids]):
            with self._database.transaction() as connection:
                for how, rows in recaptions.ends(connection, chunk).items():
                    found[how] = found.get(how, 0) + rows
        return found


def _chunks(row_ids: Sequence[int]) -> Iterator[Sequence[int]]:
    return (row_ids[start : start + _CHUNK] for start in range(0, len(row_ids), _CHUNK))
