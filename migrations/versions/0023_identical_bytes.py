"""The row of a caption taken for identical bytes.

Revision: 0023, after 0022. Function and worker of the release before run with both revisions: they take no caption
of another row. The column is without a value, for which Postgres rewrites no row. The indexes are made while the
function and the worker write; an interrupted upgrade is repeated from the start.
"""

from alembic import op

from migrations.locks import execute_concurrently

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

# Expression and condition are of `db.copies`.
_INDEXES = {
    "ix_captions_originals": "(hashtext(((md5_hash || task) || model) || model_revision))"
    " WHERE copied_from IS NULL AND captioned_at IS NOT NULL AND md5_hash IS NOT NULL",
    "ix_captions_twins": "(md5_hash, status) WHERE md5_hash IS NOT NULL AND status IN ('queued', 'running')",
}
_COMMENTS = {
    "copied_from": "id of the row whose caption was taken for identical bytes; NULL: it is the model''s own.",
    "md5_hash": "MD5 of the bytes in base64; of a composite object, since its download.",
}


def upgrade() -> None:
    """Add the column and the indexes."""
    with op.get_context().autocommit_block():
        op.execute("ALTER TABLE captions ADD COLUMN IF NOT EXISTS copied_from bigint")
        for column, words in _COMMENTS.items():
            op.execute(f"COMMENT ON COLUMN captions.{column} IS '{words}'")
        for name, definition in _INDEXES.items():
            execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            execute_concurrently(f"CREATE INDEX CONCURRENTLY {name} ON captions {definition}")


def downgrade() -> None:
    """Drop the indexes and the column."""
    with op.get_context().autocommit_block():
        for name in _INDEXES:
            execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    op.drop_column("captions", "copied_from")
