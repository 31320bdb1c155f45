"""An event is a single statement: a function registers the row. The row keeps the metadata's version at the event.

Revision: 0011, after 0010. Function and worker of the release before run with both revisions: they write the table
themselves, and do not use the columns. Both columns are without a value, for which Postgres rewrites no row.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_SIGNATURE = "register_caption(text, text, bigint, text, text, text, text, boolean, text, bigint, text, text, \
timestamptz, bigint, bigint)"

# With the rights of the caller. Each statement of the function sees all commits before the statement, so the
# statements after the lock see the rows of the event with the lock before.
_FUNCTION = """
CREATE OR REPLACE FUNCTION register_caption(
    of_bucket text, of_name text, of_generation bigint, of_task text, with_status text, with_error_code text,
    with_error text, is_own_task boolean, with_content_type text, with_size_bytes bigint, with_md5_hash text,
    with_crc32c text, with_event_time timestamptz, with_metageneration bigint, with_metadata_bytes bigint,
    OUT row_id bigint, OUT row_status text, OUT is_created boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    is_superseded boolean;
    is_deleted boolean;
    is_written_back boolean;
BEGIN
    -- Events of one object take turns: if FINALIZE and DELETE arrive at once, the second must see the row of the
    -- first.
    PERFORM pg_advisory_xact_lock(hashtextextended(of_bucket || '/' || of_name, 0));

    -- No status in the condition: by old statistics, Postgres would read all rows of a status that was rare.
    SELECT coalesce(bool_or(status = 'superseded'), false), coalesce(bool_or(status = 'deleted'), false),
           coalesce(bool_or(write_back), false)
    INTO is_superseded, is_deleted, is_written_back
    FROM public.captions WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation;

    IF NOT is_deleted THEN
        is_superseded := is_superseded OR EXISTS (
            SELECT FROM public.captions
            WHERE bucket = of_bucket AND object_name = of_name AND generation > of_generation);
        INSERT INTO public.captions (bucket, object_name, generation, task, status, content_type, size_bytes,
                                     md5_hash, crc32c, event_time, error_code, error, metageneration,
                                     metadata_bytes, write_back)
        VALUES (of_bucket, of_name, of_generation, of_task,
                CASE WHEN is_superseded THEN 'superseded' ELSE with_status END, with_content_type, with_size_bytes,
                with_md5_hash, with_crc32c, with_event_time, CASE WHEN NOT is_superseded THEN with_error_code END,
                CASE WHEN NOT is_superseded THEN with_error END, with_metageneration, with_metadata_bytes,
                is_own_task AND NOT is_written_back)
        ON CONFLICT (bucket, object_name, generation, task) DO NOTHING
        RETURNING id, status INTO row_id, row_status;
        IF FOUND THEN
            -- The index ix_captions_unfinished: an object may have a long history.
            UPDATE public.captions SET status = 'superseded', lease_until = NULL, updated_at = now()
            WHERE bucket = of_bucket AND object_name = of_name AND generation < of_generation
              AND status IN ('queued', 'running');
            is_created := true;
            RETURN;
        END IF;
        IF is_own_task AND NOT is_written_back THEN
            -- A request for a further task may have made the row, where its settings differ from the function's.
            UPDATE public.captions SET write_back = true, updated_at = now(),
                   lease_until = CASE WHEN status = 'captioned' AND NOT redo THEN now() ELSE lease_until END
            WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation AND task = of_task;
        END IF;
    END IF;

    is_created := false;
    SELECT id, status INTO row_id, row_status FROM public.captions
    WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation AND task IN (of_task, '*')
    ORDER BY (task = of_task) DESC LIMIT 1;
    IF NOT FOUND THEN
        -- The generation was deleted before; its row has another task.
        SELECT id, 'deleted' INTO STRICT row_id, row_status FROM public.captions
        WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation ORDER BY id LIMIT 1;
    END IF;
END $$
"""
_RIGHTS = (
    "GRANT INSERT (metageneration, metadata_bytes) ON captions TO dropline_gallery",
    f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC",
    f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO dropline_ingest, dropline_gallery",
    f"ALTER FUNCTION {_SIGNATURE} OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Add the columns and the function."""
    op.add_column("captions", sa.Column("metageneration", sa.BigInteger()))
    op.add_column("captions", sa.Column("metadata_bytes", sa.SmallInteger()))
    op.execute(_FUNCTION)
    for statement in _RIGHTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the function and the columns."""
    op.execute(f"DROP FUNCTION {_SIGNATURE}")
    op.drop_column("captions", "metadata_bytes")
    op.drop_column("captions", "metageneration")
