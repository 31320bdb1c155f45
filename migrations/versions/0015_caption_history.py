"""A replaced caption is kept in `caption_history`; a redo failed for good has a time.

Revision: 0015, after 0014. Function and worker of the release before run with both revisions; a caption that such
a worker replaces is not kept. The column is without a value, for which Postgres rewrites no row. The foreign key
blocks writes to `captions` for the moment in which it is created; no row is checked, since the table is new.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

# With the rights of its owner: no role deletes kept captions by itself. Of any release is the process that erases
# the caption of a deleted object.
_FUNCTION = """
CREATE FUNCTION erase_caption_history() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    DELETE FROM public.caption_history WHERE caption_id = NEW.id;
    RETURN NULL;
END $$
"""
_TRIGGER = """
CREATE TRIGGER captions_erase_history AFTER UPDATE ON captions
FOR EACH ROW WHEN (OLD.caption IS NOT NULL AND NEW.caption IS NULL) EXECUTE FUNCTION erase_caption_history()
"""
_RIGHTS = (
    "GRANT SELECT ON caption_history TO dropline_ingest, dropline_worker, dropline_reader, dropline_gallery",
    "GRANT INSERT ON caption_history TO dropline_worker",
    "GRANT UPDATE (redo_failed_at) ON captions TO dropline_gallery",
    "ALTER TABLE caption_history OWNER TO dropline_migrator",
    # Else each login could make a trigger of a temporary table with the function, and erase any caption's history.
    "REVOKE ALL ON FUNCTION erase_caption_history() FROM PUBLIC",
    "ALTER FUNCTION erase_caption_history() OWNER TO dropline_migrator",
)


def upgrade() -> None:
    """Create the table and the trigger; add the column."""
    op.add_column("captions", sa.Column("redo_failed_at", sa.DateTime(timezone=True)))
    _create_table()
    for statement in (_FUNCTION, _TRIGGER, *_RIGHTS):
        op.execute(statement)


def _create_table() -> None:
    bigint, text, moment = sa.BigInteger(), sa.Text(), sa.DateTime(timezone=True)
    op.create_table(
        "caption_history",
        sa.Column("id", bigint, sa.Identity(always=True), nullable=False),
        sa.Column("caption_id", bigint, nullable=False),
        sa.Column("caption", text, nullable=False),
        sa.Column("result", postgresql.JSONB()),
        sa.Column("model", text),
        sa.Column("model_revision", text),
        sa.Column("captioned_at", moment),
        sa.Column("edited_by", text),
        sa.Column("edited_at", moment),
        sa.Column("replaced_at", moment, nullable=False, server_default=sa.text("now()")),
        sa.PrimaryKeyConstraint("id", name="pk_caption_history"),
        sa.ForeignKeyConstraint(
            ["caption_id"], ["captions.id"], name="fk_caption_history_caption_id_captions", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_caption_history_caption_id_id", "caption_history", ["caption_id", "id"])


def downgrade() -> None:
    """Drop the table, the trigger and the column."""
    op.execute("DROP TRIGGER captions_erase_history ON captions")
    op.execute("DROP FUNCTION erase_caption_history()")
    op.drop_table("caption_history")
    op.drop_column("captions", "redo_failed_at")
