"""Rows of overwritten and deleted object versions are deleted after a time.

Revision: 0012, after 0011. Function and worker of the release before run with both revisions. The index is built
while they write, and each step has no effect where it was done before, so an upgrade that was cut short is
repeated from the start.
"""

from alembic import op

from migrations.locks import execute_concurrently

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_INDEX = "ix_captions_ended_at"
_SIGNATURE = "purge_captions(interval, integer)"
# With the rights of the owner, so that the worker can delete ended rows and no others. Only the end of a
# row changes `updated_at` of an ended row. The foreign key of caption_search deletes the copy of the caption.
_FUNCTION = """
CREATE OR REPLACE FUNCTION purge_captions(older_than interval, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    purged integer;
BEGIN
    DELETE FROM public.captions WHERE id = ANY(ARRAY(
        SELECT id FROM public.captions
        WHERE status IN ('superseded', 'deleted') AND updated_at < now() - older_than AND lease_until IS NULL
        ORDER BY updated_at LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS purged = ROW_COUNT;
    RETURN purged;
END $$
"""


def upgrade() -> None:
    """Create the function and the index."""
    with op.get_context().autocommit_block():
        # An unfinished index is dropped before.
        execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
        execute_concurrently(
            f"CREATE INDEX CONCURRENTLY {_INDEX} ON captions (updated_at) "
            "WHERE status IN ('superseded', 'deleted')"
        )
    op.execute(_FUNCTION)
    op.execute(f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO dropline_worker")
    op.execute(f"ALTER FUNCTION {_SIGNATURE} OWNER TO dropline_migrator")


def downgrade() -> None:
    """Drop the function and the index."""
    op.execute(f"DROP FUNCTION IF EXISTS {_SIGNATURE}")
    with op.get_context().autocommit_block():
        execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {_INDEX}")
