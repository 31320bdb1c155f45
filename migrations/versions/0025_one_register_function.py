"""One function has the rules for new rows: `register_caption` calls `register_tasks`.

Revision: 0025, after 0024. Function and worker of the release before run with both revisions: they call the same
functions, with the same results. `register_captions` of bulk rows calls `register_caption`.
"""

from importlib import import_module

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

# A row without an error is queued, one with an error is failed: the status has no further meaning.
_FUNCTION = """
CREATE OR REPLACE FUNCTION register_caption(
    of_bucket text, of_name text, of_generation bigint, of_task text, with_status text, with_error_code text,
    with_error text, is_own_task boolean, with_content_type text, with_size_bytes bigint, with_md5_hash text,
    with_crc32c text, with_event_time timestamptz, with_metageneration bigint, with_metadata_bytes bigint,
    OUT row_id bigint, OUT row_status text, OUT is_created boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    SELECT r.row_id, r.row_status, r.is_created INTO STRICT row_id, row_status, is_created
    FROM public.register_tasks(
        of_bucket, of_name, of_generation, ARRAY[of_task],
        ARRAY[CASE WHEN with_status = 'failed' THEN with_error_code END], ARRAY[with_error], is_own_task,
        with_content_type, with_size_bytes, with_md5_hash, with_crc32c, with_event_time, with_metageneration,
        with_metadata_bytes) AS r;
END $$
"""


def upgrade() -> None:
    """Replace the function's body; owner and rights stay."""
    op.execute(_FUNCTION)


def downgrade() -> None:
    """Put the body of revision 0011 back."""
    op.execute(vars(import_module("migrations.versions.0011_register_caption"))["_FUNCTION"])
