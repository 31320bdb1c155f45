"""Rows of a bucket in the order of its listing, the latest edits, and the rows to redo: an index for each.

Revision: 0024, after 0023. Function and worker of the release before run with both revisions. The unique index of
object versions and tasks gets the operators of bytes for the object name; equality is the same, so `ON CONFLICT`
finds it. Such an index can be no constraint. The indexes are made while the function and the worker write; an
interrupted upgrade makes the missing indexes.
"""

from alembic import op
from sqlalchemy import text

from migrations.locks import execute_concurrently

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_VERSIONS = "uq_captions_bucket_object_name_generation_task"
_NEW = "uq_captions_new"
_INDEXES = {
    "ix_captions_edited_at": "(edited_at) WHERE edited_by <> 'object metadata'",
    "ix_captions_redo": "(id) WHERE redo AND status = 'captioned'",
}


def upgrade() -> None:
    """Create the indexes; then the new unique index takes the place and the name of the constraint."""
    with op.get_context().autocommit_block():
        for name, definition in _INDEXES.items():
            _create(name, f"CREATE INDEX CONCURRENTLY {name} ON captions {definition}")
        _create_versions("object_name text_pattern_ops")
    op.execute(f"ALTER TABLE captions DROP CONSTRAINT {_VERSIONS}")
    op.execute(f"ALTER INDEX {_NEW} RENAME TO {_VERSIONS}")


def downgrade() -> None:
    """Drop the indexes, and create the constraint again."""
    with op.get_context().autocommit_block():
        for name in _INDEXES:
            execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
        _create_versions("object_name")
    op.execute(f"DROP INDEX {_VERSIONS}")
    op.execute(f"ALTER TABLE captions ADD CONSTRAINT {_VERSIONS} UNIQUE USING INDEX {_NEW}")


def _create_versions(name: str) -> None:
    _create(_NEW, f"CREATE UNIQUE INDEX CONCURRENTLY {_NEW} ON captions (bucket, {name}, generation, task)")


def _create(name: str, statement: str) -> None:
    """Create an index, unless an earlier try has: the constraint's lock may be tried for again and again."""
    is_valid = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
    if op.get_bind().execute(is_valid, {"name": name}).scalar():
        return
    execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
    execute_concurrently(statement)
