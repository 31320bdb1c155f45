"""The role of the gallery, a table of workers, and rows without a write-back to the object's metadata.

Revision: 0004, after 0003. Function and worker of the release before run with both revisions.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROLE = "dropline_gallery"

# A login without CREATEROLE can migrate where the role exists. Another database of the server may have created the
# role before, or at the same moment.
_CREATE_ROLE = f"""
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{_ROLE}') THEN
        CREATE ROLE {_ROLE} NOLOGIN;
    END IF;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

#: Columns of a new row. The claim and the result of a row belong to the worker.
_INSERT = (
    "bucket, object_name, generation, task, status, content_type, size_bytes, md5_hash, crc32c, event_time, "
    "error_code, error, write_back"
)
#: Columns that a redrive, an edited caption or a newer generation changes. Neither the identity nor the attempts
#: of a row are among the columns.
_UPDATE = (
    "status, caption, result, lease_until, error_code, error, lost_attempts, attempts_before_redrive, queued_at, "
    "updated_at, write_back"
)
_GRANTS = (
    f"GRANT USAGE ON SCHEMA public TO {_ROLE}",
    f"GRANT SELECT, INSERT ({_INSERT}), UPDATE ({_UPDATE}) ON captions TO {_ROLE}",
    f"GRANT SELECT ON current_captions, filtered_events, workers, alembic_version TO {_ROLE}",
    "GRANT SELECT ON workers TO dropline_ingest, dropline_reader",
    "GRANT SELECT, INSERT, DELETE, UPDATE (stopped_at) ON workers TO dropline_worker",
    "ALTER TABLE workers OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Add a column with a constant default, for which Postgres rewrites no row; create role and table."""
    op.add_column(
        "captions", sa.Column("write_back", sa.Boolean(), nullable=False, server_default=sa.text("true"))
    )
    op.execute(_CREATE_ROLE)
    _create_workers()
    for statement in _GRANTS:
        op.execute(statement)


def _create_workers() -> None:
    bigint, text, moment = sa.BigInteger(), sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "workers",
        sa.Column("id", bigint, sa.Identity(always=True), nullable=False),
        sa.Column("name", text, nullable=False),
        sa.Column("host", text, nullable=False),
        sa.Column("model", text, nullable=False),
        sa.Column("model_revision", text, nullable=False),
        sa.Column("device", text, nullable=False),
        sa.Column("largest_batch", bigint, nullable=False),
        sa.Column("started_at", moment, nullable=False, server_default=sa.text("now()")),
        sa.Column("stopped_at", moment),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
        sa.UniqueConstraint("name", name="uq_workers_name"),
    )


def downgrade() -> None:
    """Drop the table and the column. The role stays, without rights: other databases of the server may use it."""
    op.drop_table("workers")
    op.execute(f"REVOKE ALL ON captions, current_captions, filtered_events, alembic_version FROM {_ROLE}")
    op.execute(f"REVOKE ALL ON SCHEMA public FROM {_ROLE}")
    op.drop_column("captions", "write_back")
