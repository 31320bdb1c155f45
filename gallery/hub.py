"""The gallery's listening connection to Postgres, in the event loop, without polls.

The row of a notification is read only while a stream is open. After a lost connection the changes since the last
confirmed snapshot are read from the table.
"""

import asyncio
import math
from collections import deque
from contextlib import ExitStack
from itertools import chain, repeat

from anyio import CapacityLimiter

from db import changes
from db.changes import Changes
from db.errors import is_answer
from db.listen import RECONNECT_PAUSES_S, Listener, Notice, listening
from db.session import Database
from db.snapshot import Snapshot
from dropline.contract import ChangeNotice
from dropline.errors import DatabaseUnavailable, DroplineError
from dropline.log import get_logger
from dropline.settings import DatabaseSettings
from gallery.feed import MOST_MISSED, Feed
from gallery.threads import in_thread

log = get_logger(__name__)

#: Notifications with rows read by a single statement.
_BATCH = 500
#: Notifications waiting for rows. Beyond the number they are dropped, and the table is read as after a loss.
_MOST_PENDING = 20_000


class ChangeHub:
    """Fills a feed from Postgres. Of one event loop."""

    def __init__(self, settings: DatabaseSettings, application_name: str, reader: Database) -> None:
        """Open no connection yet.

        Args:
            settings: for the listening connection.
            application_name: of the listening connection.
            reader: of rows.
        """
        self._settings = settings
        self._application_name = application_name
        self._reader = reader
        self.feed = Feed()
        #: Set after the first attempt to listen, also a failed one.
        self.has_tried = asyncio.Event()
        #: True once Postgres has answered, whatever it answered.
        self.has_answer = False
        self._problem: DroplineError | None = DatabaseUnavailable("the gallery is not listening to Postgres yet")

    async def run(self) -> None:
        """Listen until the task is cancelled; connect again after each loss, and after each fault."""
        # A separate thread: reads of clients must not delay reads of changes.
        thread = CapacityLimiter(1)
        pauses = _pauses()
        try:
            while True:
                try:
                    await self._listen(thread)
                except Exception as error:  # noqa: BLE001 - no fault may end the listening
                    if self._problem is None:
                        pauses = _pauses()
                    self._problem = _problem_of(error)
                    self.has_answer |= is_answer(self._problem)
                    self.has_tried.set()
                await asyncio.sleep(next(pauses))
        finally:
            self.has_tried.set()
            self.feed.end_streams()

    def require_listening(self) -> None:
        """Raise the reason if changes do not arrive at the moment.

        Raises:
            DroplineError: why not.
        """
        if self._problem is not None:
            raise type(self._problem)(str(self._problem), code=self._problem.code)

    async def snapshot(self) -> Snapshot:
        """A snapshot for a stream that began before; raises the errors of `Database.transaction`."""
        snapshot = await in_thread(self._read_snapshot)
        self.feed.offer(snapshot)
        return snapshot

    async def changed_after(self, since: Snapshot) -> Changes:
        """At most `MOST_MISSED` + 1 rows, for a stream that began before; raises as `Database.transaction`."""
        found = await in_thread(lambda: self._read_changed(since))
        if len(found.rows) <= MOST_MISSED:
            self.feed.offer(found.snapshot)
        return found

    async def _listen(self, thread: CapacityLimiter) -> None:
        with ExitStack() as connection:
            opened = listening(self._settings, self._application_name, is_bounded=True)
            # Never given up: the connection would stay open.
            listener = await in_thread(lambda: connection.enter_context(opened), thread, math.inf)
            inbox = Inbox(listener)
            try:
                await self._catch_up(thread)
                self._problem = None
                self.has_answer = True
                self.has_tried.set()
                log.info("gallery_listening")
                while True:
                    await self._publish(await inbox.take(), thread)
            finally:
                inbox.close()

    async def _catch_up(self, thread: CapacityLimiter) -> None:
        """Changes during a time without a connection; the connection listens already."""
        feed = self.feed
        if feed.confirmed is None or not feed.streams:
            feed.offer(await in_thread(self._read_snapshot, thread))
            feed.wake_all()
            return
        since = feed.confirmed
        found = await in_thread(lambda: self._read_changed(since), thread)
        if len(found.rows) > MOST_MISSED:
            feed.reset(found.snapshot)
        else:
            feed.catch_up(found)

    async def _publish(self, notices: list[Notice], thread: CapacityLimiter) -> None:
        feed = self.feed
        feed.wake(notices)
        found = [notice for notice in notices if isinstance(notice, ChangeNotice)]
        if found and feed.streams:
            ids = {notice.id for notice in found}
            feed.publish(found, await in_thread(lambda: self._read_rows(ids), thread))

    def _read_snapshot(self) -> Snapshot:
        with self._reader.transaction() as connection:
            return changes.current_snapshot(connection)

    def _read_changed(self, since: Snapshot) -> Changes:
        with self._reader.transaction() as connection:
            return changes.rows_changed_after(connection, since, MOST_MISSED + 1)

    def _read_rows(self, ids: set[int]) -> Changes:
        with self._reader.transaction() as connection:
            return changes.rows_by_id(connection, ids)


class Inbox:
    """The notifications of a listener, taken from its connection whenever some have arrived."""

    def __init__(self, listener: Listener) -> None:
        """Read the connection from now on, in the running event loop."""
        self._listener = listener
        self._descriptor = listener.fileno()
        self._loop = asyncio.get_running_loop()
        self._notices: deque[Notice] = deque()
        self._news = asyncio.Event()
        self._lost: DatabaseUnavailable | None = None
        self._loop.add_reader(self._descriptor, self._read)
        # Some may have arrived with the answer to LISTEN.
        self._loop.call_soon(self._read)

    async def take(self) -> list[Notice]:
        """The next notifications, in the order of commits; waits for the first.

        Raises:
            DatabaseUnavailable: the connection was lost, or too many notifications wait.
        """
        if not self._notices and self._lost is None:
            await self._news.wait()
        self._news.clear()
        if self._lost is not None:
            raise self._lost
        return [self._notices.popleft() for _ in range(min(_BATCH, len(self._notices)))]

    def close(self) -> None:
        """Stop reading; before the connection is closed."""
        self._loop.remove_reader(self._descriptor)
        self._lost = self._lost or DatabaseUnavailable("closed")

    def _read(self) -> None:
        if self._lost is not None:
            return
        try:
            self._notices.extend(self._listener.pending())
        except DatabaseUnavailable as error:
            self._end(error)
        if len(self._notices) > _MOST_PENDING:
            self._end(DatabaseUnavailable(f"more than {_MOST_PENDING} changes wait to be sent"))
        if self._notices:
            self._news.set()

    def _end(self, error: DatabaseUnavailable) -> None:
        self._loop.remove_reader(self._descriptor)
        self._lost = error
        self._news.set()


def _problem_of(error: Exception) -> DroplineError:
    """The reason why changes do not arrive at the moment, after it is logged."""
    if isinstance(error, DroplineError):
        log.warning("gallery_not_listening", code=error.code, error=str(error))
        return error
    log.critical("gallery_not_listening", exc_info=error)
    return DatabaseUnavailable("the gallery has a fault and reads changes again soon; its log has the details")


def _pauses() -> chain[float]:
    return chain(RECONNECT_PAUSES_S, repeat(RECONNECT_PAUSES_S[-1]))
