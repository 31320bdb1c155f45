"""`register_tasks` inserts the rows one by one.

Revision: 0027, after 0026. Function and worker of the release before run with both revisions: they call the same
function, with the same results.

A row by INSERT … VALUES takes less than half the time of a row by INSERT … SELECT FROM unnest, and a new row needs
no search for it afterwards.
"""

from importlib import import_module

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

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
    is_any_created boolean := false;
BEGIN
    -- Events of one object take turns: if FINALIZE and DELETE arrive at once, the second must see the row of the
    -- first.
    PERFORM pg_advisory_xact_lock(hashtextextended(of_bucket || '/' || of_name, 0));

    -- No status in the condition: by old statistics, Postgres would read all rows of a status that was rare.
    SELECT coalesce(bool_or(status = 'superseded'), false), coalesce(bool_or(status = 'deleted'), false),
           coalesce(bool_or(write_back), false)
    INTO is_superseded, is_deleted, is_written_back
    FROM public.captions WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation;
    is_superseded := is_superseded OR NOT is_deleted AND EXISTS (
        SELECT FROM public.captions
        WHERE bucket = of_bucket AND object_name = of_name AND generation > of_generation);

    FOR place IN 1 .. cardinality(of_tasks) LOOP
        is_created := false;
        IF NOT is_deleted THEN
            INSERT INTO public.captions (bucket, object_name, generation, task, status, content_type, size_bytes,
                                         md5_hash, crc32c, event_time, error_code, error, metageneration,
                                         metadata_bytes, write_back)
            VALUES (of_bucket, of_name, of_generation, of_tasks[place],
                    CASE WHEN is_superseded THEN 'superseded'
                         WHEN with_error_codes[place] IS NULL THEN 'queued' ELSE 'failed' END,
                    with_content_type, with_size_bytes, with_md5_hash, with_crc32c, with_event_time,
                    CASE WHEN NOT is_superseded THEN with_error_codes[place] END,
                    CASE WHEN NOT is_superseded THEN with_errors[place] END, with_metageneration,
                    with_metadata_bytes, is_own AND NOT is_written_back AND place = 1)
            ON CONFLICT (bucket, object_name, generation, task) DO NOTHING
            RETURNING id, status INTO row_id, row_status;
            is_created := FOUND;
            is_any_created := is_any_created OR is_created;
            IF is_own AND place = 1 AND NOT is_written_back AND NOT is_created THEN
                -- A request for a further task may have made the row, where its settings differ from the
                -- function's.
                UPDATE public.captions SET write_back = true, updated_at = now(),
                       lease_until = CASE WHEN status = 'captioned' AND NOT redo THEN now() ELSE lease_until END
                WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation
                  AND task = of_tasks[place] AND NOT write_back;
            END IF;
        END IF;
        IF NOT is_created THEN
            -- A row of every task ('*') stands for each; so does any row of a deleted generation.
            SELECT id, CASE WHEN task IN (of_tasks[place], '*') THEN status ELSE 'deleted' END
            INTO row_id, row_status FROM public.captions
            WHERE bucket = of_bucket AND object_name = of_name AND generation = of_generation
            ORDER BY (task = of_tasks[place]) DESC, (task = '*') DESC, id LIMIT 1;
        END IF;
        RETURN NEXT;
    END LOOP;

    IF is_any_created THEN
        -- The index ix_captions_unfinished: an object may have a long history.
        UPDATE public.captions SET status = 'superseded', lease_until = NULL, updated_at = now()
        WHERE bucket = of_bucket AND object_name = of_name AND generation < of_generation
          AND status IN ('queued', 'running');
    END IF;
END $$
"""


def upgrade() -> None:
    """Replace the function's body; owner and rights stay."""
    op.execute(_FUNCTION)


def downgrade() -> None:
    """Put the body of revision 0017 back."""
    op.execute(vars(import_module("migrations.versions.0017_several_tasks"))["_FUNCTION"])
