"""Failed starts: counted in Postgres across restarts; after a few starts the worker pool is held at 0.

Cloud Run starts an ended worker again, for ever, at a GPU's price.
`docs/decisions/0023-a-pool-that-cannot-start.md` has the reasons. Without a worker pool in the settings nothing is
counted.
"""

from collections.abc import Callable
from contextlib import closing

from db import pool_problems
from db.session import Connection, Database
from dropline.broker.workers import AliveWorkers, NotListed
from dropline.errors import DroplineError, SettingsError
from dropline.log import get_logger
from dropline.scaling.deactivation import Deactivator
from dropline.scaling.protocol import ScaleToZeroOutcome
from dropline.settings import PoolSettings

log = get_logger(__name__)


class FailedStarts:
    """Notes a failed start of the worker, or a ready worker. For a single thread."""

    def __init__(
        self,
        settings: PoolSettings,
        connect: Callable[[], Database],
        scaler: Callable[[], Deactivator],
        read_workers: Callable[[], AliveWorkers | NotListed],
    ) -> None:
        """Store the parts.

        Args:
            settings: of the worker pool; without a name no start is noted.
            connect: to Postgres.
            scaler: of the worker pool.
            read_workers: the workers that are alive.
        """
        self._settings = settings
        self._connect = connect
        self._scaler = scaler
        self._read_workers = read_workers

    def note(self, error: DroplineError) -> None:
        """Count a failed start, and hold the worker pool at 0 after the last start. Raises no error."""
        if not self._settings.name:
            return
        try:
            self._note(error)
        except Exception as failure:  # noqa: BLE001 - the log has the reason why the worker ends
            log.warning("failed_start_not_noted", error=f"{type(failure).__name__}: {failure}")

    def clear(self, connection: Connection) -> None:
        """Forget failed starts and holds: this worker is ready."""
        if not self._settings.name:
            return
        pool_problems.clear(connection, self._settings.name)
        try:
            self._scaler().release()
        except DroplineError as error:
            log.info("hold_not_removed", code=error.code, error=str(error))

    def _note(self, error: DroplineError) -> None:
        if isinstance(found := self._read_workers(), AliveWorkers) and found.names:
            # One broken machine must not end the workers that caption images.
            log.warning("start_failed", alive=len(found.names), code=error.code, error=str(error))
            return
        fingerprint = self._scaler().read_fingerprint()
        with closing(self._connect()) as database, database.transaction() as connection:
            number = pool_problems.record_failed_start(
                connection,
                self._settings.name,
                fingerprint,
                str(error),
                is_permanent=isinstance(error, SettingsError),
            )
        log.warning("start_failed", number=number, code=error.code, error=str(error))
        if number < self._settings.failed_starts:
            return
        outcome = self._scaler().hold(fingerprint)
        if outcome is ScaleToZeroOutcome.ASLEEP:
            with closing(self._connect()) as database, database.transaction() as connection:
                pool_problems.record_held(connection, self._settings.name)
        log.error("pool_held", outcome=outcome.value, failed_starts=number, code=error.code, error=str(error))
