"""Which of Postgres's errors pass by themselves."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

# Classes of SQLSTATE: connection, transaction rollback, resources, operator intervention, system errors, lock not
# available; and what a standby answers until it is promoted.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58", "55P03", "25P03", "25006")


def is_transient(error: DBAPIError) -> bool:
    """Whether the same statement may succeed later: lost connections, restarts, timeouts, deadlocks."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    if state is None:
        return isinstance(error, OperationalError | InterfaceError)
    return state.startswith(_TRANSIENT_CLASSES)
