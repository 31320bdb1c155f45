"""The indexes of the queue, made while function and worker write.

Revision: 0007, after 0006. Each statement is a transaction, so an interrupted upgrade is repeated
from the start: an unfinished index is dropped before.
"""

from alembic import op

from migrations.locks import execute_concurrently

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_UNFINISHED = "status = 'queued' OR lease_until IS NOT NULL OR (redo AND status = 'captioned')"
_INDEXES = {
    # The expression is of `db.due_rows`.
    "ix_captions_due": f"(priority, (COALESCE(lease_until, not_before, queued_at))) WHERE {_UNFINISHED}",
    "ix_captions_claimed_by": "(claimed_by) WHERE lease_until IS NOT NULL",
}
_OUTDATED = {
    "ix_captions_queued": "(queued_at, id) WHERE status = 'queued'",
    "ix_captions_lease": "(lease_until) WHERE lease_until IS NOT NULL",
}


def upgrade() -> None:
    """Create the new indexes, then drop the indexes without a reader in the release."""
    _replace(_INDEXES, _OUTDATED)
    op.execute("ALTER TABLE captions VALIDATE CONSTRAINT ck_captions_priority")


def _replace(new: dict[str, str], old: dict[str, str]) -> None:
    with op.get_context().autocommit_block():
        for name, definition in new.items():
            execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            execute_concurrently(f"CREATE INDEX CONCURRENTLY {name} ON captions {definition}")
        for name in old:
            execute_concurrently(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")


def downgrade() -> None:
    """Create the indexes of the release before."""
    _replace(_OUTDATED, _INDEXES)
