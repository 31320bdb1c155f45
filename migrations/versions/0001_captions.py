"""The captions table, its view, indexes, roles and notifications.

Revision: 0001, the first.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_STATUSES = ("queued", "running", "captioned", "failed", "superseded", "deleted")

_ROLES = ("dropline_migrator", "dropline_ingest", "dropline_worker", "dropline_reader")

# Roles belong to the Postgres server: another database may have created the roles before, or at the same moment.
_CREATE_ROLE = """
DO $$ BEGIN
    CREATE ROLE {role} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

_VIEW = """
CREATE VIEW current_captions WITH (security_invoker = true) AS
SELECT * FROM captions AS c
WHERE c.status NOT IN ('deleted', 'superseded')
  AND NOT EXISTS (SELECT FROM captions AS newer
                  WHERE newer.bucket = c.bucket AND newer.object_name = c.object_name
                    AND newer.generation > c.generation)
"""

_NOTIFY_FUNCTION = """
CREATE FUNCTION notify_caption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('captions', json_build_object(
        'id', NEW.id, 'bucket', NEW.bucket, 'object_name', NEW.object_name, 'generation', NEW.generation,
        'task', NEW.task, 'status', NEW.status,
        'metadata_written', NEW.metadata_written_at IS NOT NULL)::text);
    RETURN NULL;
END $$
"""

_TRIGGERS = (
    """
    CREATE TRIGGER captions_notify_insert AFTER INSERT ON captions
    FOR EACH ROW EXECUTE FUNCTION notify_caption()
    """,
    """
    CREATE TRIGGER captions_notify_update AFTER UPDATE ON captions
    FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status
                       OR OLD.metadata_written_at IS DISTINCT FROM NEW.metadata_written_at
                       OR (NEW.status = 'captioned' AND OLD.lease_until IS NOT NULL AND NEW.lease_until IS NULL))
    EXECUTE FUNCTION notify_caption()
    """,
)

_GRANTS = (
    "GRANT USAGE ON SCHEMA public TO dropline_ingest, dropline_worker, dropline_reader",
    "GRANT USAGE, CREATE ON SCHEMA public TO dropline_migrator",
    "GRANT SELECT, INSERT, UPDATE ON captions TO dropline_ingest",
    "GRANT SELECT, UPDATE ON captions TO dropline_worker",
    "GRANT SELECT ON captions TO dropline_reader",
    "GRANT SELECT ON current_captions TO dropline_ingest, dropline_worker, dropline_reader",
    # Another login with the role dropline_migrator may run the later migrations.
    "GRANT dropline_migrator TO CURRENT_USER",
    "ALTER TABLE captions OWNER TO dropline_migrator",
    "ALTER VIEW current_captions OWNER TO dropline_migrator",
    "ALTER FUNCTION notify_caption() OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Create the schema in an empty database."""
    for role in _ROLES:
        op.execute(_CREATE_ROLE.format(role=role))
    op.execute("ALTER ROLE dropline_reader SET default_transaction_read_only = on")
    op.execute("CREATE EXTENSION IF NOT EXISTS pg_trgm")
    _create_table()
    _create_indexes()
    op.execute(_VIEW)
    op.execute(_NOTIFY_FUNCTION)
    for statement in (*_TRIGGERS, *_GRANTS):
        op.execute(statement)


def _create_table() -> None:
    text, bigint, moment = sa.Text(), sa.BigInteger(), sa.DateTime(timezone=True)
    op.create_table(
        "captions",
        sa.Column("id", bigint, sa.Identity(always=True), nullable=False),
        sa.Column("bucket", text, nullable=False),
        sa.Column("object_name", text, nullable=False),
        sa.Column("generation", bigint, nullable=False),
        sa.Column("task", text, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("caption", text),
        sa.Column("result", postgresql.JSONB()),
        sa.Column("model", text),
        sa.Column("model_revision", text),
        sa.Column("content_type", text),
        sa.Column("size_bytes", bigint),
        sa.Column("md5_hash", text),
        sa.Column("crc32c", text),
        sa.Column("width", bigint),
        sa.Column("height", bigint),
        sa.Column("attempts", bigint, nullable=False, server_default=sa.text("0")),
        sa.Column("lost_attempts", bigint, nullable=False, server_default=sa.text("0")),
        sa.Column("lease_until", moment),
        sa.Column("error_code", text),
        sa.Column("error", text),
        sa.Column("event_time", moment),
        sa.Column("queued_at", moment, nullable=False, server_default=sa.text("now()")),
        sa.Column("started_at", moment),
        sa.Column("captioned_at", moment),
        sa.Column("metadata_written_at", moment),
        sa.Column("updated_at", moment, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="pk_captions"),
        sa.UniqueConstraint(
            "bucket",
            "object_name",
            "generation",
            "task",
            name="uq_captions_bucket_object_name_generation_task",
        ),
        sa.CheckConstraint(sa.column("status").in_(_STATUSES), name="ck_captions_status"),
        sa.CheckConstraint(
            "status <> 'failed' OR (error_code IS NOT NULL AND error IS NOT NULL)",
            name="ck_captions_failed_says_why",
        ),
        sa.CheckConstraint(
            "status <> 'captioned' OR (caption IS NOT NULL AND model IS NOT NULL AND captioned_at IS NOT NULL)",
            name="ck_captions_captioned_is_complete",
        ),
        sa.CheckConstraint("status <> 'running' OR lease_until IS NOT NULL", name="ck_captions_running_has_lease"),
    )


def _create_indexes() -> None:
    op.create_index(
        "ix_captions_queued", "captions", ["queued_at", "id"], postgresql_where=sa.text("status = 'queued'")
    )
    op.create_index(
        "ix_captions_lease", "captions", ["lease_until"], postgresql_where=sa.text("lease_until IS NOT NULL")
    )
    op.create_index(
        "ix_captions_failed", "captions", ["error_code"], postgresql_where=sa.text("status = 'failed'")
    )
    op.create_index(
        "ix_captions_captioned_at",
        "captions",
        ["captioned_at"],
        postgresql_where=sa.text("captioned_at IS NOT NULL"),
    )
    op.create_index(
        "ix_captions_caption_search",
        "captions",
        [sa.text("to_tsvector('english', caption)")],
        postgresql_using="gin",
    )
    op.create_index(
        "ix_captions_caption_trigrams",
        "captions",
        ["caption"],
        postgresql_using="gin",
        postgresql_ops={"caption": "gin_trgm_ops"},
    )


def downgrade() -> None:
    """Drop the schema. The roles stay: other databases of the server may use the roles."""
    op.execute("DROP VIEW current_captions")
    op.drop_table("captions")
    op.execute("DROP FUNCTION notify_caption()")
    op.execute(
        "REVOKE ALL ON SCHEMA public FROM dropline_ingest, dropline_worker, dropline_reader, dropline_migrator"
    )
