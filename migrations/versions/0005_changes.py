"""Each change of a row has the number of its transaction, and the searches of the gallery have indexes.

Revision: 0005, after 0004. Function and worker of the release before run with both revisions.

A reader with a snapshot of the table finds the later changes by the number, also changes by transactions
from before the snapshot, committed after the snapshot. Rows from before the revision have no number.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# The default of the column is the number of an inserted row.
_DEFAULT = "ALTER TABLE captions ALTER COLUMN changed_in SET DEFAULT pg_current_xact_id()::text::bigint"

_NUMBER_FUNCTION = """
CREATE FUNCTION number_caption_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed_in := pg_current_xact_id()::text::bigint;
    RETURN NEW;
END $$
"""

# For the changes of the trigger captions_notify_update.
_NUMBER_TRIGGER = """
CREATE TRIGGER captions_number_update BEFORE UPDATE ON captions
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status
                   OR OLD.metadata_written_at IS DISTINCT FROM NEW.metadata_written_at
                   OR (NEW.status = 'captioned' AND OLD.lease_until IS NOT NULL AND NEW.lease_until IS NULL))
EXECUTE FUNCTION number_caption_change()
"""

_NOTIFY_FUNCTION = """
CREATE OR REPLACE FUNCTION notify_caption() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('captions', json_build_object(
        'id', NEW.id, 'bucket', NEW.bucket, 'object_name', NEW.object_name, 'generation', NEW.generation,
        'task', NEW.task, 'status', NEW.status,
        'metadata_written', NEW.metadata_written_at IS NOT NULL{number})::text);
    RETURN NULL;
END $$
"""
_NUMBER = ", 'changed_in', NEW.changed_in"


def upgrade() -> None:
    """Add a column without a value, for which Postgres rewrites no row."""
    op.add_column("captions", sa.Column("changed_in", sa.BigInteger()))
    op.execute(_DEFAULT)
    op.execute(_NUMBER_FUNCTION)
    op.execute("ALTER FUNCTION number_caption_change() OWNER TO dropline_migrator")
    op.execute(_NUMBER_TRIGGER)
    op.execute(_NOTIFY_FUNCTION.format(number=_NUMBER))
    _create_indexes()


def _create_indexes() -> None:
    """The first for the changes after a snapshot, the others for searches in the order of `id`."""
    indexes: tuple[tuple[str, list[str | sa.TextClause], str | None], ...] = (
        ("changed_in", ["changed_in"], "changed_in IS NOT NULL"),
        ("prompt", [sa.text("split_part(task, '>', 1)"), "id"], None),
        ("model", ["model", "id"], "model IS NOT NULL"),
        ("ended", ["status", "id"], "status IN ('failed', 'superseded', 'deleted')"),
    )
    for name, columns, where in indexes:
        condition = None if where is None else sa.text(where)
        op.create_index(f"ix_captions_{name}", "captions", columns, postgresql_where=condition)
    op.create_index(
        "ix_captions_object_name",
        "captions",
        ["object_name"],
        postgresql_ops={"object_name": "text_pattern_ops"},
    )


def downgrade() -> None:
    """Drop the column and the indexes."""
    for name in ("prompt", "model", "ended", "object_name"):
        op.drop_index(f"ix_captions_{name}", "captions")
    op.execute(_NOTIFY_FUNCTION.format(number=""))
    op.execute("DROP TRIGGER captions_number_update ON captions")
    op.execute("DROP FUNCTION number_caption_change()")
    op.drop_column("captions", "changed_in")
