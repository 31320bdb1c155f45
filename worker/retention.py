"""Deletes rows of gone object versions, as part of other work."""

from collections.abc import Callable

from db import retention
from db.session import Database
from dropline.errors import DroplineError
from dropline.log import get_logger
from dropline.settings import RetentionSettings

log = get_logger(__name__)

#: Rows of one statement: a few tens of milliseconds.
BATCH = 500
#: A child purges a batch after so many ended rows: faster than rows can end.
EVERY = 100
_DAY_S = 24 * 3600.0


class Purge:
    """The purges of a process. Each process of a worker has a separate count."""

    def __init__(self, database: Callable[[], Database], settings: RetentionSettings) -> None:
        """A purge; `database` is the process's own."""
        self._database = database
        self._ended_days = settings.ended_days
        self._rows = 0

    def row_ended(self) -> None:
        """Count a row that this child has ended; purge a batch with each hundredth."""
        self._rows += 1
        if self._rows % EVERY == 0:
            self.run()

    def run(self) -> bool:
        """Purge a batch; True if more rows may be left. Without Postgres, a later purge deletes the rows."""
        if not self._ended_days:
            return False
        try:
            with self._database().statement() as connection:
                purged = retention.purge(connection, self._ended_days * _DAY_S, BATCH)
        except DroplineError as error:
            log.warning("rows_not_purged", code=error.code, error=str(error))
            return False
        if purged:
            log.info("rows_purged", rows=purged)
        return purged == BATCH
