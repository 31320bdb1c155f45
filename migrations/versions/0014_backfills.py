"""Rows of the objects of a full bucket: many in a statement, behind fresh drops, with a cursor.

Revision: 0014, after 0013. Function and worker of the release before run with both revisions: they insert rows of
priority 0, as before.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

# A setting of the transaction decides, so that `register_caption` alone has the rules for a new row, whichever its
# priority. A setting that was set before in the session is empty.
_PRIORITY = "COALESCE(NULLIF(current_setting('dropline.priority', true), ''), '0')::smallint"

_SIGNATURE = "register_captions(text, jsonb)"
# Objects in the order of their names: of two such statements at the same time, one waits for the other. An object
# with its row takes no lock.
_FUNCTION = """
CREATE FUNCTION register_captions(
    of_bucket text, objects jsonb,
    OUT queued bigint, OUT failed bigint, OUT ended bigint, OUT queued_bytes bigint,
    OUT first_id bigint, OUT last_id bigint, OUT first_queued_id bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    -- Not by SET of the function, which a superuser alone may give to a setting of its own.
    PERFORM set_config('dropline.priority', '2', true);
    SELECT count(*) FILTER (WHERE r.is_created AND r.row_status = 'queued'),
           count(*) FILTER (WHERE r.is_created AND r.row_status = 'failed'),
           count(*) FILTER (WHERE r.row_status IN ('superseded', 'deleted')),
           coalesce(sum(o.size_bytes) FILTER (WHERE r.is_created AND r.row_status = 'queued'), 0),
           min(r.row_id) FILTER (WHERE r.is_created), max(r.row_id) FILTER (WHERE r.is_created),
           min(r.row_id) FILTER (WHERE r.is_created AND r.row_status = 'queued')
    INTO queued, failed, ended, queued_bytes, first_id, last_id, first_queued_id
    FROM (SELECT * FROM jsonb_to_recordset(objects) AS each (
              name text, generation bigint, task text, status text, error_code text, error text, own_task boolean,
              content_type text, size_bytes bigint, md5_hash text, crc32c text, event_time timestamptz,
              metageneration bigint, metadata_bytes bigint)
          WHERE NOT EXISTS (SELECT FROM public.captions
                            WHERE bucket = of_bucket AND object_name = each.name
                              AND generation = each.generation AND captions.task = each.task)
          ORDER BY name COLLATE "C", task COLLATE "C") AS o
    CROSS JOIN LATERAL public.register_caption(
        of_bucket, o.name, o.generation, o.task, o.status, o.error_code, o.error, o.own_task, o.content_type,
        o.size_bytes, o.md5_hash, o.crc32c, o.event_time, o.metageneration, o.metadata_bytes) AS r;
    PERFORM set_config('dropline.priority', '', true);
END $$
"""

_GRANTS = (
    f"REVOKE ALL ON FUNCTION {_SIGNATURE} FROM PUBLIC",
    f"GRANT EXECUTE ON FUNCTION {_SIGNATURE} TO dropline_ingest, dropline_gallery",
    f"ALTER FUNCTION {_SIGNATURE} OWNER TO dropline_migrator",
    "GRANT SELECT, INSERT, UPDATE ON backfills TO dropline_ingest, dropline_gallery",
    "GRANT SELECT ON backfills TO dropline_worker, dropline_reader",
    "ALTER TABLE backfills OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Create table and function; the changed default is for new rows, and Postgres rewrites none."""
    op.execute(f"ALTER TABLE captions ALTER COLUMN priority SET DEFAULT {_PRIORITY}")
    op.execute(_FUNCTION)
    _create_table()
    for statement in _GRANTS:
        op.execute(statement)


def _create_table() -> None:
    text, bigint, moment = sa.Text(), sa.BigInteger(), sa.DateTime(timezone=True)
    zero, now = sa.text("0"), sa.text("now()")
    counts = ("listed", "existing", "queued", "adopted", "failed", "ended", "queued_bytes")
    op.create_table(
        "backfills",
        sa.Column("id", bigint, sa.Identity(always=True), nullable=False),
        sa.Column("source", text, nullable=False),
        sa.Column("options", postgresql.JSONB(), nullable=False),
        sa.Column("since", moment),
        sa.Column("cursor", postgresql.JSONB(), nullable=False),
        *(sa.Column(name, bigint, nullable=False, server_default=zero) for name in counts),
        sa.Column("left_out", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'")),
        sa.Column("first_id", bigint),
        sa.Column("last_id", bigint),
        sa.Column("runner", text, nullable=False),
        sa.Column("started_at", moment, nullable=False, server_default=now),
        sa.Column("updated_at", moment, nullable=False, server_default=now),
        sa.Column("finished_at", moment),
        sa.PrimaryKeyConstraint("id", name="pk_backfills"),
    )
    op.create_index(
        "ix_backfills_unfinished",
        "backfills",
        ["source", "options"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
    )


def downgrade() -> None:
    """Drop table and function; new rows have priority 0 again."""
    op.drop_table("backfills")
    op.execute(f"DROP FUNCTION {_SIGNATURE}")
    op.execute("ALTER TABLE captions ALTER COLUMN priority SET DEFAULT 0")
