"""The end of rows: those of overwritten and deleted object versions are deleted after a time."""

from sqlalchemy import text

from db.session import Connection

# The function is in the migration 0012. It has the rights of its owner: the worker may delete no other rows.
_PURGE = text("SELECT public.purge_captions(make_interval(secs => :older_than_s), :most)")


def purge(connection: Connection, older_than_s: float, most: int) -> int:
    """Delete rows that are `superseded` or `deleted` for longer than `older_than_s` seconds: their number.

    Their captions are deleted too, also from `caption_search`. Rows locked by another transaction are left out.

    Args:
        connection: the statement is the whole transaction.
        older_than_s: seconds.
        most: of one call, the oldest first.
    """
    purged: int = connection.execute(_PURGE, {"older_than_s": older_than_s, "most": most}).scalar_one()
    return purged
