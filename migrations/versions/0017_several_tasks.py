"""An event registers the rows of several tasks in one statement.

Revision: 0017, after 0016. The function of the release before goes on with `register_caption`, which stays.
"""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_SIGNATURE = "register_tasks(text, text, bigint, text[], text[], text[], boolean, text, bigint, text, text, \
timestamptz, bigint, bigint)"

# With the rights of the caller. Each statement of the function sees all commits before the statement, so the
# statements after the lock see the rows of the event with the lock before.
_FUNCTION = """
CREATE OR REPLACE FUNCTION register_tasks(
    of_bucket text, of_name text, of_generation bigint, of_tasks text[], with_error_codes text[],
    with_errors text[], is_own boolean, with_content_type text, with_size_bytes bigint, with_md5_hash text,
    with_crc32c text, with_event_time timestamptz, with_metageneration bigint, with_metadata_bytes bigint)
RETURNS TABLE (row_id bigint, row_status text, is_created boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    is_superseded boolean;
    is_deleted boolean;
    is_written_back boolean;
    created bigint[] := '{}';
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
        WITH inserted AS (
            INSERT INTO public.captions (bucket, object_name, generation, task, status, content_type, size_bytes,
                                         md5_hash, crc32c, event_time, error_code, error, metageneration,
                                         metadata_bytes, write_back)
            SELECT of_bucket, of_name, of_generation, given.task,
                   CASE WHEN is_superseded THEN 'superseded'
                        WHEN given.error_code IS NULL THEN 'queued' ELSE 'failed' END,
                   with_content_type, with_size_bytes, with_md5_hash, with_crc32c, with_event_time,
                   CASE WHEN NOT is_superseded THEN given.error_code END,
                   CASE WHEN NOT is_superseded THEN given.error END, with_metageneration, with_metadata_bytes,
                   is_own AND NOT is_written_back AND given.place = 1
            FROM unnest(of_tasks, with_error_codes, with_errors) WITH ORDINALITY
                 AS given (task, error_code, error, place)
            ORDER BY given.place
            ON CONFLICT (bucket, object_name, generation, task) DO NOTHING
            RETURNING id)
        SELECT coalesce(array_agg(id), '{}') INTO created FROM inserted;
        IF cardinality(created) > 0 THEN
            -- The index ix_captions_unfinished: an object may have a long history.
            UPDATE public.captions SET status = 'superseded', lease_until = NULL, updated_at = now()
            WHERE bucket = of_bucket AND object_name = of_name AND generation < of_generation
              AND status IN ('queued', 'running');
        END IF;
        IF is_own AND NOT is_written_back AND cardinality(created) < cardinality(of_tasks) THEN
            -- A request for a further task may have made the row, where its settings differ from the function's.
            UPDATE public.captions SET write_back = true, updated_at = now(),
                   lease_until = CASE WHEN status = 'captioned' AND NOT redo THEN now() ELSE lease_until END
            WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation
              AND task = of_tasks[1] AND NOT write_back;
        END IF;
    END IF;

    -- A row of every task ('*') stands for each; so does any row of a deleted generation.
    RETURN QUERY
        SELECT found.id, CASE WHEN found.task IN (given.task, '*') THEN found.status ELSE 'deleted' END::text,
               found.id = ANY (created)
        FROM unnest(of_tasks) WITH ORDINALITY AS given (task, place)
        CROSS JOIN LATERAL (
            SELECT id, status, task FROM public.captions
            WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation
            ORDER BY (captions.task = given.task) DESC, (captions.task = '*') DESC, id LIMIT 1) AS found
        ORDER BY given.place;
END $$
"""
_RIGHTS = (
    f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC",
    f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO dropline_ingest, dropline_gallery",
    f"ALTER FUNCTION {_SIGNATURE} OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Add the function."""
    op.execute(_FUNCTION)
    for statement in _RIGHTS:
        op.execute(statement)


def downgrade() -> None:
    """Drop the function."""
    op.execute(f"DROP FUNCTION {_SIGNATURE}")
